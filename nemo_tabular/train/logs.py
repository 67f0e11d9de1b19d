"""Metrics of a run enter; metrics.csv, a progress bar or plain log lines, and whatever logger was asked for
leave.
"""

import csv
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..config import RunConfig
from ..errors import ConfigError

log = logging.getLogger("nemo_tabular")

METRICS = "metrics.csv"


def _lightning_loggers(run: RunConfig, folder: Path) -> list[Any]:
    """Lightning's loggers, imported only when asked for: the import alone costs two CPU seconds."""
    if not run.loggers:
        return []
    try:
        from pytorch_lightning import loggers
    except ImportError:
        raise ConfigError(
            "run.loggers needs Lightning's loggers: pip install 'nemo_tabular[loggers]', "
            "or leave run.loggers empty"
        ) from None
    make = {
        "tensorboard": lambda: loggers.TensorBoardLogger(str(folder), name="", version="tensorboard"),
        "wandb": lambda: loggers.WandbLogger(save_dir=str(folder), project="nemo_tabular"),
        "mlflow": lambda: loggers.MLFlowLogger(tracking_uri=(folder / "mlruns").as_uri()),
    }
    try:
        return [make[name]() for name in run.loggers]
    except ModuleNotFoundError as error:
        raise ConfigError(f"run.loggers {list(run.loggers)}: {error}; install that package") from None


class RunLog:
    """One run's reporter. Where `folder` is None (or on ranks other than 0: `quiet`) it keeps what it can in
    memory only.
    """

    def __init__(self, run: RunConfig, folder: Path | None, *, quiet: bool = False) -> None:
        self.folder = None if quiet else folder
        self.quiet = quiet
        self.loggers = [] if self.folder is None else _lightning_loggers(run, self.folder)
        self._bar: tqdm[Any] | None = None

    def begin(
        self, phase: str, step: int, steps: int, rows_per_step: int, *, histories: bool = False
    ) -> None:
        """A phase starts (or goes on) at `step`. Of histories the loss is told by window, in validation by
        whole document."""
        self._unit, self._whole = ("window", "history") if histories else ("row", "row")
        self._phase = phase
        if self.folder is not None:
            _cut(self.folder / METRICS, phase, step)
        self._start, self._first, self._steps, self._rows = time.monotonic(), step, steps, rows_per_step
        if not self.quiet and sys.stderr.isatty():
            self._bar = tqdm(total=steps, initial=step, desc=phase, unit="step", leave=True)
        elif not self.quiet:
            log.info("%s: steps %d to %d, %d documents each", phase, step, steps, rows_per_step)

    def step(self, step: int, loss: float, lr: float, norm: float, show: bool) -> None:
        """Step number `step` (from 1) is done; `show` says whether it is one to write down."""
        if self._bar is not None:
            self._bar.update(1)
        if not show:
            return
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (step - self._first) * self._rows / elapsed
        values = {"train_nll": loss, "lr": lr, "grad_norm": norm, "rows_per_s": rate}
        self.write(step, values)
        if self._bar is not None:
            self._bar.set_postfix(train=f"{loss:.3f}", rows_s=f"{rate:,.0f}")
        elif not self.quiet:
            eta = (self._steps - step) * elapsed / (step - self._first)
            log.info(
                "step %d/%d  train %.3f nats/%s  %s %ss/s  ETA %.0f s",
                step,
                self._steps,
                loss,
                self._unit,
                f"{rate:,.0f}",
                self._unit,
                eta,
            )

    def validation(self, step: int, total: float, by_column: dict[str, float], best: bool) -> None:
        """A validation's result, nats a row (histories: a document)."""
        self.write(step, {"val_nll": total} | {f"val_nll/{name}": v for name, v in by_column.items()})
        text = f"step {step}: validation {total:.4f} nats/{self._whole}{' (best)' if best else ''}"
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif not self.quiet:
            log.info(text)

    def write(self, step: int, values: dict[str, float]) -> None:
        """To metrics.csv (one line a value, so that columns never change) and to the loggers."""
        if self.folder is None:
            return
        with open(self.folder / METRICS, "a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(["phase", "step", "metric", "value"])
            writer.writerows((self._phase, step, name, repr(value)) for name, value in values.items())
        for logger in self.loggers:
            logger.log_metrics(values, step=step)

    def end(self) -> None:
        """The phase is over."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        for logger in self.loggers:
            logger.finalize("success")


def _cut(path: Path, phase: str, step: int) -> None:
    """Leave out what was written after `step` of `phase`, which is now done again, and a line that a killed
    process began."""
    if not path.exists():
        return
    kept = 0
    with open(path, "rb") as file:
        for line in file:
            of, _, rest = line.partition(b",")
            again = of == phase.encode() and int(rest.partition(b",")[0] or 0) > step
            if again or not line.endswith(b"\n"):
                break
            kept += len(line)
    os.truncate(path, kept)
