"""Residuals of numeric series enter, the negative log-likelihood of the next ones leaves: the network that
forecasts.

It reads one column of one series at a time, so it serves tables of any number of columns, in any unit; how
the columns depend on each other is told by the history at hand (generate/copula.py). Position t holds the bin
of row t - 1's residual and what the past says of row t (codecs/residual.py: features), and predicts the bin
of row t's residual. Positions are rotary, so that only distances count.

Shapes: B series, T rows, H hidden, F features, K bins.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..codecs.residual import FEATURES, Bins
from ..config import ModelConfig
from ..engine import block as engine_block
from ..engine.initial import normal
from ..engine.launch import ProcessGroupCollection
from ..engine.stage import WHOLE, StageModule
from ..errors import CheckpointError
from .saved import decoder_block, model_tensors, read_folder, tensors_from, tensors_to, write_folder

FORMAT = 1
EMBEDDING_STD = 0.05
FEATURE_WIDTH = 32
ROTARY_BASE = 200.0
"""The slowest rotation takes about a thousand rows, more than a window holds."""
START, MISSING = 0, 1  # beyond the bins: no row before, and a row without a value


@dataclass(frozen=True)
class SeriesBatch:
    """Windows of series, time first."""

    before: Tensor
    """int64 (T, B): bin of the row before, or K + START, K + MISSING."""
    features: Tensor
    """float32 (T, B, F)."""
    target: Tensor
    """int64 (T, B): bin of the row itself."""
    scored: Tensor
    """float32 (T, B): which of them count."""


class SeriesGPT(StageModule):
    """The network; at first it predicts a Student-t residual whatever came before."""

    def __init__(
        self, model: ModelConfig, bins: Bins, groups: ProcessGroupCollection, *, seed: int = 0
    ) -> None:
        super().__init__(engine_block.transformer_config(model, "32"), groups, WHOLE)
        self.bins = bins
        hidden = model.hidden_size

        def drawn(name: str, *shape: int, std: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(normal(name, shape, seed, std))

        self.embedding = drawn("embedding", bins.count + 2, hidden, std=EMBEDDING_STD)
        self.linear = drawn("linear", hidden, FEATURES, std=0.2)
        self.wide = drawn("wide", FEATURE_WIDTH, FEATURES, std=0.5)
        self.wide_bias = drawn("wide_bias", FEATURE_WIDTH, std=0.5)
        self.narrow = drawn("narrow", hidden, FEATURE_WIDTH, std=0.1)
        self.blocks = engine_block.transformer_block(self.config, groups, seed=seed)
        self.head = drawn("head", bins.count, hidden, std=0.02)
        self.bias = torch.nn.Parameter(_student_bias(bins))

    def forward(self, batch: SeriesBatch) -> tuple[Tensor, Tensor, int]:
        """Negative log-likelihood in nats of what is scored: the sum, the sum again, how many there are."""
        total = self.nats(batch).sum()
        return total, total.detach(), self.shape(batch)[1]

    def nats(self, batch: SeriesBatch) -> Tensor:
        """(T, B): of each value from the first scored row on; 0 of those that are not scored."""
        first = int(batch.scored.any(1).int().argmax())  # the rows before are read only
        logits_TBK = functional.linear(self.hidden(batch)[first:], self.head, self.bias)
        nll = functional.cross_entropy(
            logits_TBK.flatten(0, 1), batch.target[first:].flatten(), reduction="none"
        )
        return nll.view(logits_TBK.shape[:2]) * batch.scored[first:]

    def shape(self, batch: SeriesBatch) -> tuple[int, int]:
        """(rows, how many of them all are scored): by the latter the loss is divided."""
        return len(batch.before), int(batch.scored.sum())

    def hidden(self, batch: SeriesBatch) -> Tensor:
        """(T, B, H): what the head predicts from."""
        tensors: dict[str, Tensor] = dict(self.named_parameters())
        angles = rotary_angles(len(batch.before), self.config.hidden_size // self.config.num_attention_heads)
        x_TBH = embedded(tensors, batch.before, batch.features)
        angles_T11D = angles[:, None, None].to(x_TBH.device)
        return self.blocks(x_TBH, attention_mask=None, rotary_pos_emb=angles_T11D)


def before_bins(residual_CT: np.ndarray, bins: Bins) -> np.ndarray:
    """What the network reads at each row and the one to come, (C, T + 1): the bin of the row before it."""
    code, _inside = bins.encode(residual_CT)
    code = np.where(np.isfinite(residual_CT), code, bins.count + MISSING)
    return np.concatenate([np.full((len(code), 1), bins.count + START), code], 1)


def embedded(tensors: dict[str, Tensor], before: Tensor, features: Tensor) -> Tensor:
    """(..., H): what the blocks read, from bins (...) and features (..., F)."""
    wide = functional.gelu(functional.linear(features, tensors["wide"], tensors["wide_bias"]))
    side = functional.linear(features, tensors["linear"]) + functional.linear(wide, tensors["narrow"])
    return functional.embedding(before, tensors["embedding"]) + side


def rotary_angles(rows: int, size: int, first: int = 0) -> Tensor:
    """(T, size): by how much heads of this size are turned at rows first, first + 1, ..., as in Megatron."""
    speed = ROTARY_BASE ** -(torch.arange(0, size, 2) / size)
    angle = torch.arange(first, first + rows)[:, None] * speed
    return torch.cat([angle, angle], 1)


def _student_bias(bins: Bins) -> Tensor:
    """Log-probabilities, up to a constant, of a Student-t residual with four degrees of freedom."""
    middles = torch.tensor(bins.middles, dtype=torch.float32)
    return -2.5 * torch.log1p(middles**2 / 4) + 0.5 * torch.log1p(middles**2)


@dataclass(frozen=True)
class SavedForecaster:
    """The network's parameters and how they came about; a folder on disk."""

    config: ModelConfig
    bins: Bins
    rows: int
    """Of the windows it was trained on: as much of the past as it has learnt to read."""
    tensors: dict[str, Tensor]
    info: dict[str, Any]
    """The recipe: seed, settings, losses."""

    def save(self, folder: Path) -> None:
        """Write model.json, weights.safetensors and their checksums, all or nothing."""
        content = {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json"),
            "bins": asdict(self.bins),
            "rows": self.rows,
            "info": self.info,
        }
        files = {
            "model.json": json.dumps(content, indent=1).encode(),
            "weights.safetensors": tensors_to(self.tensors),
        }
        write_folder(folder, files)

    @classmethod
    def load(cls, folder: Path) -> "SavedForecaster":
        """Raises CheckpointError naming what is missing, damaged or of another kind."""
        files = read_folder(folder)
        try:
            content = json.loads(files["model.json"])
            bins, rows = Bins(**content["bins"]), content["rows"]
        except KeyError as error:
            raise CheckpointError(f"{folder}: no {error} there: not a forecaster's folder") from None
        if content["format"] > FORMAT:
            raise CheckpointError(
                f"{folder}: written by a newer version (format {content['format']}); upgrade"
            )
        weights = tensors_from(files["weights.safetensors"], folder / "weights.safetensors")
        if (found := weights["linear"].shape[1]) != FEATURES:
            raise CheckpointError(
                f"{folder}: its network is told {found} numbers of each row, where this version tells "
                f"{FEATURES}; make it again with nemo-tabular pretrain-forecaster"
            )
        config = ModelConfig.model_validate(content["config"])
        return cls(config, bins, rows, weights, content["info"])

    @classmethod
    def shipped(cls) -> "SavedForecaster":
        """The one that comes with the package, trained on simulated series only."""
        return cls.load(Path(__file__).parent / "forecaster")

    @classmethod
    def of(cls, module: SeriesGPT, config: ModelConfig, rows: int, info: dict[str, Any]) -> "SavedForecaster":
        """A copy of the module's parameters."""
        tensors = {name: t.clone() for name, t in model_tensors(module).items()}
        return cls(config, module.bins, rows, tensors, info)

    @torch.no_grad()
    def module(self, groups: ProcessGroupCollection) -> SeriesGPT:
        """The network with these parameters, to be trained further."""
        module = SeriesGPT(self.config, self.bins, groups)
        for name, parameter in model_tensors(module).items():
            parameter.copy_(self.tensors[name])
        return module


class SeriesReader:
    """Decodes a forecaster: C series are read once, then each goes on along P paths of its own.

    Plain torch in fp32, with a cache of keys and values: those of the rows read are shared by the paths.
    Shapes: C series, P paths, N heads, D head size.
    """

    def __init__(self, model: SavedForecaster) -> None:
        self.model = model
        self._tensors = {name: t.float() for name, t in model.tensors.items()}
        config = model.config
        self._heads, self._size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self._blocks = [decoder_block(self._tensors, i, config) for i in range(config.num_layers)]
        self._act = engine_block.ACTIVATIONS[config.activation]

    @torch.inference_mode()
    def read(self, before_CT: np.ndarray, features_CTF: np.ndarray) -> np.ndarray:
        """Read the last rows of C series anew. Cumulative probabilities, float64 (C, T, K), of each row."""
        self._shared: list[tuple[Tensor, Tensor]] = []
        self._own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self._blocks]
        self._row = before_CT.shape[1]
        angles_TD = rotary_angles(self._row, self._size)
        x_CTH = embedded(
            self._tensors, torch.from_numpy(before_CT), torch.from_numpy(features_CTF.astype(np.float32))
        )
        for block in self._blocks:
            q, k, v = self._qkv(block, x_CTH, angles_TD[:, None])
            self._shared.append((k, v))
            q, k, v = (a.transpose(1, 2) for a in (q, k, v))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x_CTH = self._rest(block, x_CTH, y.transpose(1, 2))
        return self._cumulative(x_CTH)

    @torch.inference_mode()
    def step(self, before_CP: np.ndarray, features_CPF: np.ndarray) -> np.ndarray:
        """The next row of all paths. Cumulative probabilities, float64 (C, P, K)."""
        angles_D = rotary_angles(1, self._size, self._row)[0]
        self._row += 1
        x_CPH = embedded(
            self._tensors, torch.from_numpy(before_CP), torch.from_numpy(features_CPF.astype(np.float32))
        )
        for i, block in enumerate(self._blocks):
            q, k, v = self._qkv(block, x_CPH, angles_D)
            self._own[i].append((k, v))
            x_CPH = self._rest(block, x_CPH, self._attend(i, q))
        return self._cumulative(x_CPH)

    def _attend(self, layer: int, q_CPND: Tensor) -> Tensor:
        past = max(0, self._row - self.model.rows)  # rows that are out of the window by now
        k_CTND, v_CTND = (x[:, past:] for x in self._shared[layer])
        own = self._own[layer][max(0, past - self._shared[layer][0].shape[1]) :]
        own_k, own_v = (torch.stack(x, 2) for x in zip(*own, strict=True))
        shared = torch.einsum("cpnd,ctnd->cpnt", q_CPND, k_CTND)
        recent = torch.einsum("cpnd,cpsnd->cpns", q_CPND, own_k)
        weights = (torch.cat([shared, recent], -1) / math.sqrt(self._size)).softmax(-1)
        rows = k_CTND.shape[1]
        out = torch.einsum("cpnt,ctnd->cpnd", weights[..., :rows], v_CTND)
        return out + torch.einsum("cpns,cpsnd->cpnd", weights[..., rows:], own_v)

    def _qkv(self, block: dict[str, Tensor], x: Tensor, angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = functional.linear(self._norm(x, block["norm1_w"], block.get("norm1_b")), block["qkv"])
        q, k, v = parts.view(*x.shape[:-1], 3, self._heads, self._size).unbind(-3)
        return _turned(q, angles), _turned(k, angles), v

    def _rest(self, block: dict[str, Tensor], x: Tensor, attended: Tensor) -> Tensor:
        x = x + functional.linear(attended.flatten(-2), block["proj"])
        inner = functional.linear(self._norm(x, block["norm2_w"], block.get("norm2_b")), block["fc1"])
        return x + functional.linear(self._act(inner), block["fc2"])

    def _norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None:
            return functional.rms_norm(x, weight.shape, weight, 1e-5)
        return functional.layer_norm(x, weight.shape, weight, bias, 1e-5)

    def _cumulative(self, x: Tensor) -> np.ndarray:
        final = "blocks.final_layernorm"
        y = self._norm(x, self._tensors[f"{final}.weight"], self._tensors.get(f"{final}.bias"))
        logits = functional.linear(y, self._tensors["head"], self._tensors["bias"])
        total = logits.double().softmax(-1).cumsum(-1).numpy()
        return total / total[..., -1:]


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions: halves of each head turned by the angles, broadcast over heads."""
    one, two = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-two, one], -1) * angles.sin()
