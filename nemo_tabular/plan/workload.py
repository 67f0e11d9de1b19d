"""A token store, or assumptions where there is none yet, enters; what a plan must know of the data leaves.

Shapes: S modelled slots of a row, R rows of a window, T positions of a sequence.
"""

from dataclasses import dataclass
from itertools import accumulate

from ..config import Config
from ..errors import ConfigError

TOKENS_PER_PARAMETER = 20  # of Hoffmann et al. 2022: the tokens that make the most of a model's FLOPs


@dataclass(frozen=True)
class Workload:
    """What one sequence looks like, and how many there are."""

    sizes: tuple[int, ...]
    """Codes of each modelled slot of a row (S,)."""
    histories: bool
    window_rows: int
    """Rows of a sequence: 1 in row mode, else the window's R."""
    sequences: int | None
    """Rows, or windows of histories, in the training split; None: not known."""
    source: str
    """Where all this comes from, for people."""
    waves: int = 0
    """Rows of weights below those of the ids in training, for the slots whose codes stand in an order."""

    @property
    def slots(self) -> int:
        """Modelled slots of a row."""
        return len(self.sizes)

    @property
    def vocab_size(self) -> int:
        """Ids that the model knows; histories have one more, the end."""
        return sum(self.sizes) + self.histories

    @property
    def table_rows(self) -> int:
        """Rows of the table of ids in training."""
        return self.vocab_size + self.waves

    @property
    def tokens(self) -> int:
        """Tokens of a sequence: the codes of its rows."""
        return self.slots * self.window_rows

    @property
    def positions(self) -> int:
        """Positions T of a sequence: its tokens, and in histories one more, where the end is predicted."""
        return self.tokens + self.histories

    @property
    def predictions(self) -> tuple[int, ...]:
        """How often a sequence predicts each slot (S,)."""
        return (self.window_rows + self.histories, *[self.window_rows] * (self.slots - 1))


def of_store(config: Config) -> Workload:
    """What the store at data.store holds. Raises StoreError where it is not whole."""
    from ..models.curves import Curves
    from ..models.order import RowPlan
    from ..store import TokenStore

    assert config.data.store is not None
    store = TokenStore.open(config.data.store)
    tokenizer, split = store.tokenizer, store.manifest.splits["train"]
    sizes = tuple(int(size) for size in tokenizer.slot_sizes[~tokenizer.residual])
    histories, data = store.manifest.mode != "rows", config.data
    sequences = split.documents
    if histories:
        sequences = len(store.documents("train").windows(data.max_rows, data.max_rows - data.context_rows))
    source = (
        f"{config.data.store}: {split.rows:,} training rows, {len(sizes)} tokens a row, {sum(sizes):,} ids"
    )
    if tokenizer.dense:
        source += f"; the networks of the columns {', '.join(tokenizer.dense)} are not counted"
    plan = RowPlan.of(tokenizer, tokenizer.columns)
    curves = Curves([0, *accumulate(plan.sizes)], plan.places(tokenizer))
    waves = curves.num_rows - curves.num_ids
    return Workload(sizes, histories, data.max_rows if histories else 1, sequences, source, waves)


def assumed(
    config: Config, slots: int, vocab_size: int, histories: bool = False, rows: int | None = None
) -> Workload:
    """A table as it might be: `slots` tokens a row, ids shared evenly between them. `rows`: of the training
    split. Raises ConfigError for a table of nothing.
    """
    if slots < 1 or vocab_size < slots or (rows is not None and rows < 1):
        raise ConfigError(
            f"--slots {slots}, --vocab-size {vocab_size}, --rows {rows}: at least one slot, one id for each, "
            "one row"
        )
    share, rest = divmod(vocab_size, slots)
    sizes = tuple(share + (slot < rest) for slot in range(slots))
    window = config.data.max_rows if histories else 1
    sequences = None if rows is None else max(1, rows // window)
    source = f"assumed, for want of a store: {slots} tokens a row, {vocab_size:,} ids"
    source += f", histories in windows of {window} rows" if histories else ", single rows"
    source += "" if rows is None else f", {rows:,} training rows"
    return Workload(sizes, histories, window, sequences, source)
