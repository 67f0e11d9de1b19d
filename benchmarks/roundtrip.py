"""Float columns of four shapes enter; their round-trip errors leave: NeMo's tokenizer and ours, same digits.

Both are fitted on the same values and code the same held-out draw of them with the same base and code length,
every digit modelled. `python benchmarks/roundtrip.py` (about a minute, nearly all of it NeMo's).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import ModuleType

import nemo_wheel
import numpy as np
import pyarrow as pa
from results import write_result

from nemo_tabular.codecs import fit_codec
from nemo_tabular.profile import profile
from nemo_tabular.schema import Column

ROWS, EVALUATED = 20_000, 1_000
DIGITS = ((10, 4), (10, 6), (32, 3), (100, 2), (100, 3), (256, 2))
TRANSFORMS = ("robust", "yeo-johnson", "quantile")


def columns() -> dict[str, np.ndarray]:
    """Bounded, right-skewed, heavy on both sides, and tiny."""
    rng = np.random.default_rng(3)
    return {
        "uniform on [0, 1000]": np.round(rng.uniform(0, 1000, ROWS), 6),
        "lognormal(3, 1.5)": np.round(np.exp(rng.normal(3, 1.5, ROWS)), 6),
        "1234.567 t(3)": np.round(rng.standard_t(3, ROWS) * 1234.567, 6),
        "half-normal * 1e-4": np.round(np.abs(rng.normal(0, 1e-4, ROWS)), 10),
    }


@dataclass(frozen=True)
class Errors:
    """Decoded minus true."""

    mean: float
    """Mean absolute error in standard deviations of the column."""
    bias: float
    """Mean error in its own standard errors: beyond 3 or so it is no chance."""
    failed: int

    @classmethod
    def of(cls, true: np.ndarray, decoded: np.ndarray, scale: float) -> Errors:
        """NaN in `decoded` marks a value that could not be coded."""
        error = (decoded - true)[~np.isnan(decoded)]
        noise = error.std() / len(error) ** 0.5
        return cls(
            float(np.abs(error).mean() / scale), float(error.mean() / noise), int(np.isnan(decoded).sum())
        )

    def cells(self) -> str:
        """Two cells of a Markdown table."""
        failed = f" ({self.failed} failed)" if self.failed else ""
        return f"{self.mean:.2e}{failed} | {self.bias:+.1f}"


def nemo(
    coder: ModuleType, fitted: np.ndarray, some: np.ndarray, transform: str, base: int, length: int
) -> np.ndarray:
    """NeMo's decoded values."""
    code = coder.FloatCode("x", length, 0, True, base, True, transform)
    code.compute_code(np.unique(fitted))
    decoded = np.full(len(some), np.nan)
    for i, value in enumerate(some.tolist()):
        try:
            decoded[i] = float(code.decode(code.encode(repr(value))))
        except (ValueError, KeyError):  # "not right length": the value at the edge of the range
            continue
    return decoded


def ours(fitted: np.ndarray, some: np.ndarray, transform: str, base: int, length: int) -> np.ndarray:
    """Our decoded values."""
    options = {"transform": transform, "base": base, "code_len": length}
    column = Column("x", "float", "double", "digits", nullable=False, options=options)
    found = profile([pa.RecordBatch.from_arrays([pa.array(fitted)], ["x"])]).columns["x"]
    codec = fit_codec(column, found)
    assert len(codec.slots) == length and max(slot.size for slot in codec.slots) <= base
    return codec.decode(codec.encode(pa.array(some))).to_numpy()


def main() -> None:
    """Print the table and write it to benchmarks/results/roundtrip.md."""
    warnings.filterwarnings("ignore", module="sklearn")
    coder, _ = nemo_wheel.load()
    lines = [
        "| column | transform | base, digits | NeMo error | NeMo bias | our error | our bias | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios, biases = [], []
    for name, values in columns().items():
        some = np.random.default_rng(4).choice(values, EVALUATED, replace=False)
        for transform in TRANSFORMS:
            for base, length in DIGITS:
                try:
                    theirs = Errors.of(some, nemo(coder, values, some, transform, base, length), values.std())
                except ValueError as error:  # "need large length to code the nummber"
                    lines.append(f"| {name} | {transform} | {base}, {length} | {error} | | | | |")
                    continue
                we = Errors.of(some, ours(values, some, transform, base, length), values.std())
                ratios.append(we.mean / theirs.mean)
                biases.append(we.bias)
                cells = f"{theirs.cells()} | {we.cells()} | {ratios[-1]:.3f}"
                lines.append(f"| {name} | {transform} | {base}, {length} | {cells} |")
                print(lines[-1], flush=True)
    summary = (
        f"NeMo {nemo_wheel.VERSION}'s FloatCode, unmodified, against codec `digits` at the same transform, "
        f"base and code_len. Fitted on {ROWS:,} values, {EVALUATED:,} of them coded. Error: "
        "mean |decoded - true| in standard deviations of the column; bias: mean error in standard errors.\n\n"
        f"Our error over NeMo's: median {np.median(ratios):.3f}, largest {max(ratios):.3f}. "
        f"Our largest bias: {max(np.abs(biases)):.1f} standard errors among {len(biases)}.\n"
    )
    print(summary)
    write_result("roundtrip", "Round trip of numbers", summary + "\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
