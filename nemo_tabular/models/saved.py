"""A trained model as a folder: safetensors and JSON enter or leave, with the sha256 of every file; Megatron
is not needed.

model.json            architecture, column order, fingerprints, what training found
weights.safetensors   parameters under the names of TabularGPT
tokenizer.json        schema and codecs
manifest.json         sha256 and size of the three
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError
from ..tokenizer import TableTokenizer
from .order import RowPlan
from .weights import DecoderWeights, SetWeights

FORMAT = 1
MANIFEST = "manifest.json"


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write `files` as `folder`, all or nothing: temporary folder, fsync, manifest of sha256, rename.

    Raises CheckpointError where the disk refuses; what was there before stays, and the temporary folder is
    gone.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    stamps = {name: [hashlib.sha256(data).hexdigest(), len(data)] for name, data in files.items()}
    try:
        for name, data in {**files, MANIFEST: json.dumps(stamps, indent=1).encode()}.items():
            with open(temporary / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(folder)
        _flush(folder.parent)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written: {error.strerror or error}; what was saved before is untouched. "
            "Make room (or mend the permissions) and start again: the run resumes"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file of a folder that `write_folder` made, checked. Raises CheckpointError naming the file at
    fault.
    """
    try:
        stamps = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder}: no {MANIFEST} there, so no whole checkpoint or model") from None
    except ValueError as error:
        raise CheckpointError(f"{folder / MANIFEST}: damaged: {error}") from None
    if not isinstance(stamps, dict) or not all(isinstance(s, list) and len(s) == 2 for s in stamps.values()):
        raise CheckpointError(
            f"{folder}: its {MANIFEST} is not of a model or checkpoint; name a run's folder"
        )
    files = {}
    for name, (digest, size) in stamps.items():
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"{folder / name}: missing") from None
        if len(data) != size:
            raise CheckpointError(f"{folder / name}: damaged ({len(data)} bytes, {size} were written)")
        if hashlib.sha256(data).hexdigest() != digest:
            raise CheckpointError(f"{folder / name}: damaged (its sha256 is not that of what was written)")
        files[name] = data
    return files


def tensors_from(data: bytes, where: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file already in memory."""
    try:
        return load_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(f"{where}: not safetensors: {error}") from None


def tensors_to(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file of the tensors, wherever they are."""
    return dump_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


@dataclass(frozen=True)
class SavedModel:
    """A model to generate from and to score with."""

    config: ModelConfig
    plan: RowPlan
    tokenizer: TableTokenizer
    tensors: dict[str, Tensor]
    histories: bool
    max_rows: int
    info: dict[str, Any]
    """Steps, losses, fingerprint of the store: what training wants remembered."""
    context_rows: int | None = None
    """Histories: rows that a window repeats when it continues a document; None where training continued none.
    """
    longest_document: int = 1
    """Rows of the longest document that it was trained on."""

    def save(self, folder: Path) -> None:
        """Write the folder, all or nothing."""
        content = {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json"),
            "columns": list(self.plan.columns),
            "histories": self.histories,
            "max_rows": self.max_rows,
            "context_rows": self.context_rows,
            "longest_document": self.longest_document,
            "tokenizer": self.tokenizer.fingerprint(),
            "info": self.info,
        }
        write_folder(
            folder,
            {
                "model.json": json.dumps(content, indent=1).encode(),
                "tokenizer.json": json.dumps(self.tokenizer.to_json(), indent=1).encode(),
                "weights.safetensors": tensors_to(self.tensors),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> "SavedModel":
        """Read and check a folder. Raises CheckpointError naming what is missing, damaged or foreign."""
        files = read_folder(folder)
        try:
            content = json.loads(files["model.json"])
            tokenizer = TableTokenizer.from_json(json.loads(files["tokenizer.json"]))
            weights = files["weights.safetensors"]
        except KeyError as error:
            raise CheckpointError(f"{folder}: {error} is not among its files: not a model's folder") from None
        if content["format"] > FORMAT:
            raise CheckpointError(
                f"{folder}: written by a newer version (format {content['format']}); upgrade"
            )
        return cls(
            config=ModelConfig.model_validate(content["config"]),
            plan=RowPlan.of(tokenizer, content["columns"]),
            tokenizer=tokenizer,
            tensors=tensors_from(weights, folder / "weights.safetensors"),
            histories=content["histories"],
            max_rows=content["max_rows"],
            info=content["info"],
            context_rows=content["context_rows"],
            longest_document=content["longest_document"],
        )

    @classmethod
    def of(cls, path: str | Path) -> "SavedModel":
        """The model of a run's folder, or of a folder that `save` wrote. Raises CheckpointError as `load`
        does, and where the run is not finished.
        """
        folder = Path(path)
        if (folder / "model").is_dir():
            folder = folder / "model"
        elif (folder / "checkpoints").is_dir():
            raise CheckpointError(f"{folder}: this run is not finished; train it to its end first")
        return cls.load(folder)

    def weights(self) -> DecoderWeights:
        """The parameters under plain names, in fp32, attention rows as [q|k|v][head][dim]."""
        tensors = {name: t.float() for name, t in self.tensors.items()}
        rms = self.config.normalization == "RMSNorm"
        return DecoderWeights(
            hidden=self.config.hidden_size,
            heads=self.config.num_attention_heads,
            sizes=[size + (self.histories and s == 0) for s, size in enumerate(self.plan.sizes)],
            embedding=tensors["embedding"],
            position=tensors["position"],
            begin=tensors["begin"],
            bias=tensors["bias"],
            blocks=[decoder_block(tensors, i, self.config) for i in range(self.config.num_layers)],
            final_w=tensors["blocks.final_layernorm.weight"],
            final_b=None if rms else tensors["blocks.final_layernorm.bias"],
            act=self.config.activation,
            rms=rms,
            row_position=tensors.get("row_position"),
            histories=self.histories,
        )

    def set_weights(self) -> SetWeights:
        """The parameters of a CGM."""
        tensors = {name: t.float() for name, t in self.tensors.items()}
        cross = None
        if self.config.query == "cross_attention":
            names = {"q": "linear_q", "k": "linear_k", "v": "linear_v", "proj": "linear_proj"}
            cross = {name: tensors[f"cross.{long}.weight"] for name, long in names.items()}
            for norm, long in {"query_norm": "query_norm", "final": "final_layernorm"}.items():
                cross[f"{norm}_w"] = tensors[f"cross.{long}.weight"]
                if self.config.normalization == "LayerNorm":
                    cross[f"{norm}_b"] = tensors[f"cross.{long}.bias"]
        return SetWeights(self.weights(), tensors["column"], cross)


def decoder_block(tensors: dict[str, Tensor], layer: int, config: ModelConfig) -> dict[str, Tensor]:
    """One layer's parameters under plain names, attention rows as [q|k|v][head][dim]."""
    name = f"blocks.layers.{layer}"
    hidden, heads = config.hidden_size, config.num_attention_heads
    fused = tensors[f"{name}.self_attention.linear_qkv.weight"]  # Megatron's rows are [head][q|k|v][dim]
    parts = {
        "qkv": fused.view(heads, 3, hidden // heads, hidden).transpose(0, 1).reshape(3 * hidden, hidden),
        "proj": tensors[f"{name}.self_attention.linear_proj.weight"],
        "fc1": tensors[f"{name}.mlp.linear_fc1.weight"],
        "fc2": tensors[f"{name}.mlp.linear_fc2.weight"],
        "norm1_w": tensors[f"{name}.input_layernorm.weight"],
        "norm2_w": tensors[f"{name}.pre_mlp_layernorm.weight"],
    }
    if config.normalization == "LayerNorm":
        parts["norm1_b"] = tensors[f"{name}.input_layernorm.bias"]
        parts["norm2_b"] = tensors[f"{name}.pre_mlp_layernorm.bias"]
    return parts


def model_tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters of a module by name, without Megatron's empty extra states."""
    return {name: t.detach() for name, t in module.named_parameters()}
