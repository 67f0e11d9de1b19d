"""How many steps, at which learning rate, and for how long: pure functions of the settings."""

import math
import re
from datetime import timedelta

from ..config import Config, OptimConfig, TrainerConfig
from ..errors import ConfigError

BATCH, SMALLEST_BATCH, ROWS_PER_BATCH = 128, 16, 64
HISTORIES = 16
"""Documents of a step: as many rows as in a batch of single rows, and more. Measured on 3,000 histories of
9 rows in the mean, as many epochs each: 13 nats a history better than 64 documents a step."""
PIECES, SMALLEST_PIECE = 8, 4
"""Of a batch of histories: in pieces of like lengths there is little padding, which took 3 of 4 parts of the
time."""
LR, HIDDEN = {"gpt": 7e-3, "cgm": 4.5e-3}, 64
FINAL_FIT_BELOW = 20_000
EPOCHS = {"gpt": 5.0, "cgm": 14.0}
EPOCHS_ROWS, EPOCHS_IDS, EPOCHS_COLUMNS = 32_768, 640, 15
"""Table that EPOCHS speaks of; fewer rows get more passes, and so do, from the gpt, more ids, and, from the
cgm, more columns."""
EPOCHS_BOUNDS = {"gpt": (3.0, 8.0), "cgm": (2.0, 45.0)}
# Measured on held-out rows, the gpt at a linear decay: 14,000 rows of magic lose .05 nats with 5 epochs for
# 6.5, and gain .07 with 8 and .08 with 10; 15,000 of california_housing gain .06 with 8; 52,000 of cardio are
# best with 3 to 4 (6.5: .004 worse). Of 700, 1,000 and 7,500 rows (titanic, insurance, churn), none held out,
# 8, 5 and 6.5 were best, and 10 lose .12, .9 and .02. All these have some 640 ids or fewer, but for titanic;
# 22,500 rows of default_credit with 1,716 gain .11 with 9 epochs for 6, and .04 with 12.
# A row in another order is another example to the cgm, so that small tables bear more passes than those of a
# model with one order, and many columns, which have many orders, need them: too many passes over few columns
# learn the rows by heart (two columns of numbers in 10,000 rows: .038 nats lost after 7, .044 after 14), too
# few over many leave most orders unlearnt.

# Measured on 10,000 rows of the network asia, 8 epochs: nats lost in a random order are .0255, .0163, .0124
# and .0158 at rates of 7, 4.5, 3 and 1.5e-3; columns of many codes want the larger ones.
# Measured on held-out rows of Adult (benchmarks/results/column_orders.md): with random orders only, averaged
# orders are .02 nats better, and the fixed order .07 nats worse, which a classifier sees in samples.
ORDER = {"gpt": "entropy", "cgm": "mixed"}
FIXED_SHARE, LEAST_FIXED_SHARE = 0.5, 0.25
"""Of EPOCHS_COLUMNS columns or fewer, and of the most."""


def resolve(
    config: Config,
    documents: int,
    histories: bool,
    columns: int = EPOCHS_COLUMNS,
    ids: int = EPOCHS_IDS,
) -> Config:
    """The configuration with everything filled in that follows from the number of training documents, of
    columns and of modelled ids, and from the kind of model: its epochs, its order of columns and the share of
    rows in it, and for histories its batches.

    Measured on held-out rows: small tables want small batches and correspondingly small steps (150 to 1,300
    rows: 2 to 8 nats a row better than batches of 128 over more epochs), and the rows that were held out for
    early stopping.
    """
    batch, lr, final = config.data.global_batch_size, config.optim.lr, config.trainer.final_fit
    if batch is None and histories:
        batch = HISTORIES
    elif batch is None:
        power = round(math.log2(max(documents, 1) / ROWS_PER_BATCH))
        batch = min(BATCH, max(SMALLEST_BATCH, 2 ** max(power, 0)))
    if lr is None:
        full = HISTORIES if histories else BATCH
        lr = LR[config.model.kind] * math.sqrt(min(1.0, batch / full)) * HIDDEN / config.model.hidden_size
    micro = config.data.micro_batch_size
    if micro is None and histories and config.model.pipeline_model_parallel_size == 1:
        micro = max(SMALLEST_PIECE, batch // PIECES)
    if final is None:
        final = documents < FINAL_FIT_BELOW and not histories
    epochs = config.trainer.max_epochs or default_epochs(config.model.kind, documents, columns, ids)
    order, share = config.model.order or ORDER[config.model.kind], config.model.fixed_share
    if share is None and config.model.kind == "cgm":
        share = default_fixed_share(columns)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"order": order, "fixed_share": share}),
            "data": config.data.model_copy(update={"global_batch_size": batch, "micro_batch_size": micro}),
            "optim": config.optim.model_copy(update={"lr": float(f"{lr:.4g}")}),
            "trainer": config.trainer.model_copy(update={"final_fit": final, "max_epochs": epochs}),
        }
    )


def default_epochs(kind: str, documents: int, columns: int, ids: int) -> float:
    """Passes over the training rows, within bounds: inversely as the root of the rows, and as that of the ids
    (gpt; few are no reason for fewer passes) or as the columns (cgm; as their root where they are few)."""
    fewest, most = EPOCHS_BOUNDS[kind]
    wide = columns / EPOCHS_COLUMNS
    much = math.sqrt(max(1.0, ids / EPOCHS_IDS)) if kind == "gpt" else max(wide, math.sqrt(wide))
    epochs = EPOCHS[kind] * math.sqrt(EPOCHS_ROWS / max(documents, 1)) * much
    return round(min(most, max(fewest, epochs)), 1)


def default_fixed_share(columns: int) -> float:
    """Share of the rows that the cgm sees in its one order: of many columns inversely as their root. As the
    passes are as the columns, those in the one order are as their root, and all that are added are random."""
    return round(
        max(LEAST_FIXED_SHARE, FIXED_SHARE * min(1.0, math.sqrt(EPOCHS_COLUMNS / max(columns, 1)))), 3
    )


def num_steps(trainer: TrainerConfig, documents: int, global_batch_size: int) -> int:
    """Steps of the whole schedule: max_steps, or what max_epochs comes to."""
    if trainer.max_steps is not None:
        return trainer.max_steps
    assert trainer.max_epochs is not None, "resolve(config) fills it in"
    return math.ceil(trainer.max_epochs * documents / global_batch_size)


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Rate of step 0..steps-1: linear warm-up to lr, then down to min_lr as lr_decay_style says. Never 0."""
    assert optim.lr is not None, "resolve(config) fills it in"
    done = (step + 0.5) / steps
    if done < optim.lr_warmup_fraction:
        return optim.lr * done / optim.lr_warmup_fraction
    if optim.lr_decay_style == "constant":
        return optim.lr
    left = (1 - done) / (1 - optim.lr_warmup_fraction)
    share = left if optim.lr_decay_style == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return optim.min_lr + (optim.lr - optim.min_lr) * share


def parse_time(text: str | None) -> float:
    """Seconds of "DD:HH:MM:SS" (Lightning's form); infinity for None. Raises ConfigError otherwise."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", text)
    if match is None:
        raise ConfigError(f"trainer.max_time {text!r}: write it as DD:HH:MM:SS, for example 00:02:30:00")
    days, hours, minutes, seconds = map(int, match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
