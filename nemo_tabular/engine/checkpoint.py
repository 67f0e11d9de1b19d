"""Megatron's distributed checkpoint of model chunks and their optimizer: live tensors enter, files leave,
each with its sha256; the files come back under any parallel layout.

Nothing here decides when to save, what a folder is called or which one to trust: that is
`train/checkpoints.py`.
"""

import hashlib
import io
import json
import os
import random
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..unpickling import Unadmitted, unpickled

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingConfig, CheckpointingException
from megatron.core.dist_checkpointing.dict_utils import extract_matching_values
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from megatron.core.dist_checkpointing.state_dict_utils import save_preprocess
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies import torch as torch_strategies
from megatron.core.dist_checkpointing.strategies.common import COMMON_STATE_FNAME
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from megatron.core.tensor_parallel.random import get_cuda_rng_tracker
from torch.distributed.checkpoint import FileSystemReader, metadata, planner
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import (
    SerializationFormat,
    _StorageInfo,
    _StorageWriterTransforms,
    _write_item,
)

from .optimizer_state import complete_adam_state
from .step import TrainStep

_INDEX = (
    *(metadata.Metadata, metadata.MetadataIndex, metadata.StorageMeta, metadata.BytesStorageMetadata),
    *(metadata.TensorStorageMetadata, metadata.ChunkStorageMetadata, metadata.TensorProperties),
    metadata._MEM_FORMAT_ENCODING,
)
_PLANS = (planner.SavePlan, planner.WriteItem, planner.WriteItemType, planner.TensorWriteData)

Stamp = tuple[str, int]
"""sha256 and size of a file, as it was meant to be written."""

# torch tells Megatron to move from one of its classes to another
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.checkpoint\..*")

# Megatron would start a manager process to hear from its writer processes. One thread of this process writes
# here: a second of CPU less a run, and a full disk is an exception instead of a dead child.
filesystem_async._results_queue = object()  # type: ignore[assignment]

_DTYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
ADMITTED = {
    **{f"{kind.__module__}.{kind.__qualname__}": kind for kind in (_StorageInfo, *_INDEX, *_PLANS)},
    **{f"torch.{name}": getattr(torch, name) for name in (*_DTYPES, "Size")},
    "torch.serialization._get_layout": torch.serialization._get_layout,
}
"""Every name that the index of a checkpoint, which torch keeps as a pickle, may contain."""


class _Reader(FileSystemReader):
    """torch's reader of checkpoints, with nothing but the index's own classes in the index."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Any:
        path = Path(self.path) / ".metadata"
        try:
            found = unpickled(path.read_bytes(), ADMITTED)
        except Unadmitted as error:
            raise CheckpointError(f"{path}: {error}: not written by this program") from None
        found.storage_meta.load_id = self.load_id
        return found


torch_strategies._get_filesystem_reader = lambda folder, cache_metadata=False: _Reader(folder)


class _HashingFile:
    """A file that hashes what passes through, so that the manifest says what was meant, not what arrived."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += memoryview(data).nbytes
        self.file.write(data)
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None: ...


class _Strategy(TorchDistSaveShardedStrategy):
    """Megatron's plan of who writes what; the writing itself is `Shards`."""

    def _get_save_and_finalize_callbacks(self, writer: Any, planned: Any) -> Any:
        return writer, planned[1]


class Shards:
    """What this rank writes of one checkpoint, agreed on with all the others.

    With `copy` it is independent of the live tensors from the moment it is made: training may go on.
    """

    def __init__(self, trained: TrainStep, folder: Path, *, copy: bool, validate: bool) -> None:
        trained.settle()
        sharded, self.common = save_preprocess(_state(trained, loading=False), validate)
        self.common.pop("content_metadata", None)
        strategy = _Strategy("torch_dist", 1, thread_count=1)
        self.backend = CheckpointingConfig(strategy.backend, strategy.version)
        self._writer, self._metadata = strategy.async_save(sharded, folder)
        self._buckets = [
            (name, [(item, t.to("cpu", copy=copy)) for item, t in tensors], blobs)
            for _path, name, (blobs, tensors) in self._writer.write_buckets
        ]
        if copy:
            self.common = _copied(self.common)

    def write(self, folder: Path) -> tuple[dict[str, Stamp], list[Any]]:
        """Write and flush this rank's files. Returns their stamps, and what `finish` wants to know of them.

        No collective: any thread may call it. Raises OSError.
        """
        stamps, results = {}, []
        for name, tensors, blobs in self._buckets:
            with open(folder / name, "wb") as file:
                stream: Any = _HashingFile(file)
                for item, data in [*blobs, *tensors]:
                    results.append(
                        _write_item(
                            _StorageWriterTransforms(),
                            stream,
                            data,
                            item,
                            name,
                            SerializationFormat.TORCH_SAVE,
                        )
                    )
                file.flush()
                os.fsync(file.fileno())
            stamps[name] = (stream.sha256.hexdigest(), stream.size)
        return stamps, results

    def finish(self, folder: Path, results: list[list[Any]]) -> dict[str, Stamp]:
        """On rank 0, with what every rank's `write` returned: write what belongs to the whole."""
        self._writer.finish(self._metadata, results)
        common = io.BytesIO()
        torch.save(self.common, common)
        files = {
            COMMON_STATE_FNAME: common.getvalue(),
            "metadata.json": json.dumps(asdict(self.backend)).encode(),
        }
        for name, data in files.items():
            with open(folder / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        files[".metadata"] = (folder / ".metadata").read_bytes()
        return {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}


def load(trained: TrainStep, folder: Path, *, optimizer: bool = True, rng: bool = False) -> None:
    """Fill the live tensors from a checkpoint of whatever layout; with `rng` (same number of ranks only) the
    generators too. Raises CheckpointError where it is of another model.
    """
    state = _state(trained, loading=True, optimizer=optimizer, rng=rng)
    try:
        loaded = dist_checkpointing.load(state, str(folder), validate_access_integrity=False)
    except (CheckpointingException, CheckpointException, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: not a checkpoint of this model: {str(error)[:500]}; resume with the same settings "
            "and store, or start a new run"
        ) from error
    for name, module in _named(trained):
        module.load_state_dict(loaded[name], strict=False)
    if optimizer:
        trained.optimizer.load_state_dict(loaded["optimizer"])
        complete_adam_state(trained.optimizer)
    else:
        trained.optimizer.reload_model_params()
    if rng:
        _set_rng({name: row[0] for name, row in loaded["rng"].items()})


def finite(trained: TrainStep) -> bool:
    """Whether every weight of this rank is a number."""
    return all(bool(torch.isfinite(p).all()) for _, module in _named(trained) for p in module.parameters())


def _named(trained: TrainStep) -> list[tuple[str, Any]]:
    """This rank's model chunks without their gradient buffers, named as Megatron-LM names them."""
    several = len(trained.modules) > 1
    return [(f"model{i}" if several else "model", module) for i, module in enumerate(trained.modules)]


def _state(trained: TrainStep, *, loading: bool, optimizer: bool = True, rng: bool = True) -> dict[str, Any]:
    """Megatron's sharded state dict of everything that is saved."""
    metadata = {
        "distrib_optim_sharding_type": "fully_reshardable",
        "chained_optim_avoid_prefix": True,
        "dp_cp_group": trained.groups.dp_cp,
    }
    model = {
        name: _without_blanks(module.sharded_state_dict(metadata=metadata))
        for name, module in _named(trained)
    }
    state: dict[str, Any] = dict(model)
    if optimizer:
        complete_adam_state(trained.optimizer)
        state["optimizer"] = trained.optimizer.sharded_state_dict(
            model, is_loading=loading, metadata=metadata
        )
    if rng:
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        state["rng"] = {
            name: ShardedTensor.from_rank_offsets(f"rng.{name}", value.unsqueeze(0), (0, rank, ranks))
            for name, value in _rng().items()
        }
    return state


def _without_blanks(state: dict[str, Any]) -> dict[str, Any]:
    """Without the extra states that layers keep for FP8: here they are empty, and pickles."""
    return extract_matching_values(state, lambda v: isinstance(v, ShardedObject) and v.data is None)[1]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value.clone() if isinstance(value, Tensor) else value


# ---- random number generators ----


def _rng() -> dict[str, Tensor]:
    """The state of every generator of this process, as tensors of fixed size."""
    _version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words),
        "python_gauss": torch.tensor(
            [0.0 if gauss is None else gauss, gauss is not None], dtype=torch.float64
        ),
    }
    _kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state["numpy"] = torch.from_numpy(np.asarray(keys, np.int64))
    state["numpy_rest"] = torch.tensor([position, has_gauss, cached], dtype=torch.float64)
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    # Megatron's own, one a purpose: dropout and initial values of sharded and of replicated parameters
    return state | {f"tracker.{name}": value for name, value in get_cuda_rng_tracker().get_states().items()}


def _set_rng(state: dict[str, Tensor]) -> None:
    gauss, has = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss if has else None))
    position, has_gauss, cached = state["numpy_rest"].tolist()
    np.random.set_state(
        ("MT19937", state["numpy"].numpy().astype(np.uint32), int(position), int(has_gauss), cached)
    )
    get_cuda_rng_tracker().set_states(
        {name.removeprefix("tracker."): v for name, v in state.items() if name.startswith("tracker.")}
    )
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
