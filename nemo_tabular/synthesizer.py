"""The facade: a table enters `fit`; synthetic tables, conditional ones and exact log-probabilities leave.

Everything here is one call into the stages (schema, store, train, generate); nothing is decided in this file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from .config import Config, load_config
from .engine.ranks import ALONE, Place, place
from .errors import CheckpointError, GenerationError, SchemaError
from .generate.histories import HistoryStream
from .generate.request import GenerationRequest, HistoryRequest, OneCell, Sampling, is_sequence
from .generate.sets import SetStream
from .generate.shares import agreed, shared_tables
from .generate.streams import Stream, open_stream
from .generate.trie import placement
from .models.likelihood import ONE_ORDER, Likelihood, Question, open_likelihood
from .models.saved import SavedModel
from .models.transfer import inherit
from .readers import TableReader, open_table, write_table
from .readers.matrices import matrix_cells
from .schema import ARRAYS, Schema
from .tokenizer import TableTokenizer, as_arrow

if TYPE_CHECKING:
    import pandas as pd

    from .generate.clock import Gaps
    from .generate.history import History
    from .generate.tune import Tune
    from .store import TokenStore

VALIDATION_ROWS = 2000
"""Rows that judge when to stop, where a twentieth of the table is fewer: up to a fifth of a small table."""


class Synthesizer:
    """A generative model of one table, of rows or of histories: documents of many rows.

    >>> s = Synthesizer("gpt").fit(df)
    >>> s.sample(1000, given={"sex": "Female"})
    >>> s.log_prob(df_test)
    >>> s = Synthesizer("cgm").fit(df)
    >>> s.sample(1000, given={"income": ">50K", "age": 30})
    >>> s.impute(df_with_gaps)
    >>> s = Synthesizer("gpt").fit(df, group_by=["customer"], order_by=["date"])
    >>> s.sample(num_documents=1000)
    >>> s.sample(num_documents=1000, history=df_so_far)
    """

    def __init__(
        self, model: str = "gpt", config: Config | str | Path | None = None, **overrides: Any
    ) -> None:
        """`config`: a recipe (YAML path or Config; default: the laptop's); `overrides`: dotted settings, with
        "__" for the dot, e.g. `trainer__max_steps=500`. Raises ConfigError for what is unknown or impossible.
        """
        dotted = [f"model.kind={model}"] + [
            f"{k.replace('__', '.')}={_yaml(v)}" for k, v in overrides.items()
        ]
        if isinstance(config, Config):
            from omegaconf import OmegaConf

            merged = OmegaConf.merge(config.model_dump(mode="json"), OmegaConf.from_dotlist(dotted))
            self.config = Config.model_validate(OmegaConf.to_container(merged))
        else:
            self.config = load_config(config, dotted)
        self._model: SavedModel | None = None
        self._stream: Stream | None = None

    def fit(
        self,
        table: Any,
        *,
        schema: Schema | str | Path | None = None,
        group_by: Sequence[str] = (),
        order_by: Sequence[str] = (),
        **reading: Any,
    ) -> Synthesizer:
        """Train on `table`: a data frame, an Arrow table, the path of a file, or a prepared TokenStore.

        With `group_by` the rows that share a key (a customer's number) are one history, ordered by
        `order_by`; a schema that is given says both itself. The schema is inferred unless given; `reading`
        goes to `open_table`. With run.dir set, the run is kept there and resumed if it was stopped.

        After `load`, or with model.restore_from_path set, training goes on from that model: columns and
        values that it knows are taken over, and the table may have more or fewer. Raises SchemaError,
        CodecError, ConfigError and CheckpointError.
        """
        from .schema import following, infer_schema
        from .store import TokenStore, prepare
        from .train.family import require_known

        if isinstance(table, TokenStore):
            if schema is not None or group_by or order_by or reading:
                raise SchemaError("a store has its schema already: give the store alone")
            return self._train(table)
        reader = open_table(table, **reading)
        start = self.config.model.restore_from_path
        extend = None if start is None else TableTokenizer.load(start)
        if (schema is not None or extend is not None) and (group_by or order_by):
            raise SchemaError(
                "group_by and order_by stand in the schema that is given, or of the model to go on from"
            )
        if isinstance(schema, str | Path):
            schema = Schema.from_yaml(schema)
        if extend is not None:
            schema = following(reader, extend.schema, schema)
        elif schema is None:
            schema = infer_schema(reader, group_by=group_by, order_by=order_by)
        require_known(self.config.model.kind, schema)
        with tempfile.TemporaryDirectory(prefix="nemo_tabular_") as folder:
            share = validation_share(schema.rows)
            store = prepare(
                reader,
                Path(folder, "store"),
                schema=schema,
                extend=extend,
                splits=(1 - share, share),
                seed=self.config.run.seed,
            )
            return self._train(store)

    def _train(self, store: TokenStore) -> Synthesizer:
        from .train.run import train

        result = train(self.config, store)
        if not result.finished:
            raise CheckpointError(
                f"training was stopped at step {result.steps}; call fit again with the same run.dir to go on"
            )
        if result.model is not None:  # on rank 0
            self._use(result.model)
        return self

    @classmethod
    def load(cls, path: str | Path, **overrides: Any) -> Synthesizer:
        """Load a run's folder or a folder that `save` wrote. `fit` then trains on from it: fine-tuning, for
        which `overrides` are settings as of the constructor. Raises CheckpointError for what is not whole.
        """
        saved = SavedModel.of(path)
        settings = {"model__restore_from_path": str(path), **overrides}
        synthesizer = cls(saved.config.kind, **settings)
        synthesizer.config = inherit(synthesizer.config, saved)
        synthesizer._use(saved)
        return synthesizer

    def save(self, path: str | Path) -> None:
        """Write the model as a folder (safetensors and JSON), all or nothing."""
        self.model.save(Path(path))

    def _use(self, model: SavedModel) -> None:
        self._model, self._stream = model, None

    @property
    def model(self) -> SavedModel:
        """The trained model. Raises CheckpointError before `fit` or `load`."""
        if self._model is None:
            raise CheckpointError("no model yet: call fit(table), or Synthesizer.load(path)")
        return self._model

    @property
    def schema(self) -> Schema:
        """The schema of the table that the model was trained on."""
        return self.model.tokenizer.schema

    # ---- generation ----

    def stream(self) -> Stream:
        """The generator of tables, for whoever wants to write the pieces away himself."""
        if self._stream is None:
            self._stream = open_stream(self.model)
        return self._stream

    def _tables(
        self,
        num_rows: int | None,
        num_documents: int | None,
        max_rows: int | None,
        given: Mapping[str, Any] | pd.DataFrame | None,
        seed: int,
        first: tuple[int, int],
        sampling: Sampling,
        order: str | None = None,
        history: Any = None,
        unseen: str | None = None,
        here: Place = ALONE,
    ) -> Iterator[pa.Table]:
        """At least one table; `first`: the numbers of the first row and of the first document. With several
        ranks in `here` they share the work, and rank 0 has the tables.
        """
        stream = self.stream()
        if isinstance(stream, HistoryStream):
            if num_documents is None or num_rows is not None or first[0]:
                raise GenerationError(
                    "this model makes histories, documents of many rows: say how many with num_documents (on "
                    "the command line --documents) and nothing of rows"
                )
            asked = HistoryRequest(
                num_documents, seed, first[1], max_rows, sampling, _named(given), history, unseen
            )
            return shared_tables(stream, asked, here)
        if num_documents is not None or max_rows is not None or first[1] or history is not None:
            raise GenerationError(
                "this model makes single rows: say how many with num_rows (on the command line --rows); "
                "documents, and what continues them, come from a model that was fitted with group_by"
            )
        if order == "random" and not isinstance(stream, SetStream):
            raise GenerationError(ONE_ORDER.format("order='random'"))
        request = _request(self.model.tokenizer, num_rows, given, seed, first[0], sampling, order, unseen)
        return shared_tables(stream, request, here)

    def sample(
        self,
        num_rows: int | None = None,
        *,
        num_documents: int | None = None,
        max_rows: int | None = None,
        given: Mapping[str, Any] | pd.DataFrame | None = None,
        history: Any = None,
        seed: int = 0,
        first_row: int = 0,
        first_document: int = 0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        order: str | None = None,
        unseen: str | None = None,
    ) -> pd.DataFrame:
        """`num_rows` synthetic rows as a data frame, columns in the table's order; row i depends on (seed, i)
        only.

        `given`: values of columns, one for all rows or one a row (a data frame: one row for each of its
        rows); of any columns for the CGM, of the leading ones for the GPT. `order`: for the CGM, "random" (a
        new order of the columns every few rows) or "fixed"; the default is what its training speaks for.
        `unseen` says what a given value that training never saw is read as ("nearest", "other", ...).

        A model of histories makes `num_documents` of them instead, with new keys; document i depends on
        (seed, i) only, and is cut off after `max_rows` new rows (default: the longest document in training).
        What is given then holds in every row of a document. `history`: a frame or a file of histories to
        continue, document i the i-th of them (begun again at the end); only the new rows are returned.
        """
        sampling, first = Sampling(temperature, top_k, top_p), (first_row, first_document)
        pieces = self._tables(
            num_rows, num_documents, max_rows, given, seed, first, sampling, order, history, unseen
        )
        return as_frame(pa.concat_tables(list(pieces)), self.schema)

    def write(
        self,
        path: str | Path,
        num_rows: int | None = None,
        *,
        num_documents: int | None = None,
        max_rows: int | None = None,
        given: Mapping[str, Any] | Sequence[str] | pd.DataFrame | None = None,
        history: Any = None,
        seed: int = 0,
        first_row: int = 0,
        first_document: int = 0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        order: str | None = None,
        unseen: str | None = None,
    ) -> int:
        """As `sample`, streamed to a CSV or Parquet file: memory does not grow with the rows. Returns their
        number. Ranks that torchrun or srun started make them together: the same rows, and rank 0 writes them.
        """
        if given is not None and not hasattr(given, "keys"):
            given = parse_given(given) if given else None
        sampling, first = Sampling(temperature, top_k, top_p), (first_row, first_document)
        here = place()
        pieces = self._tables(
            num_rows, num_documents, max_rows, given, seed, first, sampling, order, history, unseen, here
        )
        if here.rank:
            return agreed(sum(piece.num_rows for piece in pieces), here)
        rows = 0
        with write_table(path, self.schema) as out:
            for piece in pieces:
                out.write(piece)
                rows += piece.num_rows
        return agreed(rows, here)

    def write_imputed(
        self, path: str | Path, reader: TableReader, *, seed: int = 0, unseen: str | None = None
    ) -> tuple[int, int]:
        """As `impute`, from what `open_table` opened to a CSV or Parquet file: memory does not grow with the
        rows. Returns their number and that of the cells filled.
        """
        stream, rows, cells = self._set_stream(), 0, 0
        gaps = replace(self.schema, columns=tuple(replace(c, nullable=True) for c in self.schema.columns))
        with write_table(path, self.schema) as out:
            for batch in reader.batches(gaps):
                out.write(stream.impute(batch, seed, first_row=rows, unseen=unseen))
                rows += len(batch)
                cells += sum(column.null_count for column in batch.columns)
        return rows, cells

    def _set_stream(self) -> SetStream:
        stream = self.stream()
        if not isinstance(stream, SetStream):
            raise GenerationError(ONE_ORDER.format("impute"))
        return stream

    # ---- forecasting ----

    def forecast(
        self,
        history: Any,
        horizon: int = 12,
        *,
        samples: int = 500,
        seed: int = 0,
        given: pd.DataFrame | None = None,
        group_by: Sequence[str] = (),
        order_by: Sequence[str] = (),
        columns: Sequence[str] = (),
        gaps: Gaps = "error",
        fine_tune: Tune = "never",
        **reading: Any,
    ) -> pd.DataFrame:
        """Sampled futures of the numeric columns of `history` (a frame or a file): `samples` paths of
        `horizon` rows of each series, all columns together. One row a series, path and step, with its time.

        Needs no training: the forecaster that ships with the package reads each series' own history. A fitted
        model says which columns hold keys and times; otherwise `group_by` and `order_by` do. `given`: known
        futures of some columns, which condition the others up to each step, not beyond. `gaps`: rows that are
        not there are an "error", count as "missing", or "ignore": rows are consecutive. `fine_tune`: "auto"
        fits the network further to the history if forecasts of its own last rows get better beyond chance;
        "always" does so untested. Path i depends on (seed, i). Raises SchemaError, GenerationError,
        CodecError.
        """
        import pandas as pd

        from .generate.forecast import (
            Forecaster,
            ForecastRequest,
        )  # with Megatron, which sampling can do without

        request = ForecastRequest(horizon, samples, seed, given)
        known = self._history(history, group_by, order_by, columns=tuple(columns), gaps=gaps, **reading)
        forecaster, _found = Forecaster().fine_tuned(known, fine_tune, seed, horizon)
        return pd.concat(list(forecaster.tables(known, request)), ignore_index=True)

    def _history(
        self, table: Any, group_by: Sequence[str], order_by: Sequence[str], **options: Any
    ) -> History:
        from .generate.history import read_history

        if self._model is None:
            return read_history(table, group_by=tuple(group_by), order_by=tuple(order_by), **options)
        if group_by or order_by:
            raise SchemaError("group_by and order_by stand in the schema of the fitted model")
        return read_history(table, schema=self.schema, **options)

    # ---- filling gaps ----

    def impute(
        self, table: Any, *, seed: int = 0, imputations: int | None = None, unseen: str | None = None
    ) -> pd.DataFrame:
        """The table with every missing cell drawn given those of its row that are there, by a model that
        reads columns in any order (the CGM). The same seed gives the same cells.

        `imputations`: so many tables under each other, which differ in what was drawn, with the index level
        "imputation"; analyse each and pool the results. Columns that the table lacks are filled as well.
        `unseen`: as of `log_prob`.
        """
        import pandas as pd

        stream = self._set_stream()
        numbers = range(1 if imputations is None else imputations)
        if not numbers:
            raise GenerationError(f"imputations is {imputations!r}, expected at least 1")
        index = table.index if isinstance(table, pd.DataFrame) else None
        table = as_arrow(table)
        tables = [stream.impute(table, seed, number, unseen=unseen) for number in numbers]
        frames = [as_frame(filled, self.schema) for filled in tables]
        for frame in frames:
            frame.index = frame.index if index is None else index
        return frames[0] if imputations is None else pd.concat(frames, keys=numbers, names=["imputation"])

    # ---- scoring ----

    def log_prob(
        self,
        table: Any,
        *,
        columns: Sequence[str] | None = None,
        given: Sequence[str] | None = None,
        orders: int = 1,
        by_column: bool = False,
        unseen: str | None = None,
    ) -> Any:
        """Exact log-probability of each row in nats: float64 (rows,), or with `by_column` a data frame (rows,
        columns).

        Of all columns, each conditional on those before it in the model's order; the sum is the same in any
        case. The CGM scores any `columns` (default: all others) `given` any others; columns that are neither
        are left out, and the table need not have them. With `orders` above 1 it averages the probability
        over so many random orders of columns, which is what its samples follow.

        A number's resolution is the table's: integers have probabilities, floats the probability of their
        step. `unseen` says what a value that training never saw is scored as ("nearest", "other", ...); by
        default it is a CodecError.
        """
        import pandas as pd

        if by_column and orders > 1:
            raise GenerationError("log_prob: by_column tells the parts of one order; leave orders at 1")
        question = Question(columns, given, orders, unseen)
        log_p = self._likelihood().log_prob(table, question)
        if not by_column:
            return np.logaddexp.reduce(log_p.sum(2), axis=0) - np.log(orders)
        frame = pd.DataFrame(log_p[0], columns=list(self.model.tokenizer.columns))
        asked = columns or [name for name in frame if name not in (given or ())]
        return frame[list(asked)]

    def _likelihood(self) -> Likelihood:
        return open_likelihood(self.model, placement(self.model.config.hidden_size)[1])

    def predict_proba(
        self, table: Any, target: str, *, orders: int = 1, unseen: str | None = None
    ) -> pd.DataFrame:
        """Probabilities of the values of column `target`, one column a value, given all other cells that the
        table has; its own column `target`, if any, is not looked at. For models that read in any order (the
        CGM), and columns of one token a value. `orders`: average over so many orders of the other columns.
        """
        import pandas as pd

        tokenizer = self.model.tokenizer
        p = self._likelihood().probabilities(table, target, Question(orders=orders, unseen=unseen))
        codes = np.arange(p.shape[1], dtype=np.int32)[:, None]
        values = tokenizer.codecs[target].decode(codes)
        known = values.is_valid().to_numpy(zero_copy_only=False)
        p = p[:, known] / p[:, known].sum(1, keepdims=True)
        index = table.index if isinstance(table, pd.DataFrame) else None
        return pd.DataFrame(p, index=index, columns=values.to_pandas()[known].tolist())


def as_frame(table: pa.Table, schema: Schema) -> pd.DataFrame:
    """A data frame; cells that are arrays become numpy arrays of the column's shape, and whole numbers stay
    whole numbers where some are missing."""
    arrays = {c.name: c.shape for c in schema.columns if c.kind in ARRAYS and c.name in table.column_names}
    frame = table.drop_columns(list(arrays)).to_pandas() if arrays else table.to_pandas()
    for name in [name for name in table.column_names if name in arrays]:
        place = table.column_names.index(name)
        frame.insert(place, name, _objects(matrix_cells(table.column(name), arrays[name])))
    for column in schema.columns:
        if column.nullable and pat.is_integer(column.arrow):
            kind = str(column.arrow).replace("int", "Int").replace("uI", "UI")  # pandas' own, with <NA>
            frame[column.name] = table[column.name].to_pandas(integer_object_nulls=True).astype(kind)
    return frame


def _objects(cells: list[Any]) -> np.ndarray:
    out = np.empty(len(cells), object)
    for row, cell in enumerate(cells):
        out[row] = cell
    return out


def validation_share(rows: int | None) -> float:
    """Share of the rows that judges when to stop; 0 where there are too few rows to spare any."""
    if rows is None:
        return 0.05
    if rows < 50:
        return 0.0
    return float(np.clip(VALIDATION_ROWS / rows, 0.05, 0.2))


def parse_given(texts: Sequence[str]) -> Mapping[str, Any]:
    """`["sex=Female", "age=40"]`, or `["rows.csv"]` for one row of conditions per generated row."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            values[name] = value
        elif Path(text).exists():
            table = pa.Table.from_batches(list(open_table(text).batches()))
            values |= {column: table[column] for column in table.column_names}
        else:
            raise GenerationError(f"given {text!r}: write column=value, or name a file that exists")
    return values


def _request(
    tokenizer: TableTokenizer,
    num_rows: int | None,
    given: Mapping[str, Any] | pd.DataFrame | None,
    seed: int,
    first_row: int,
    sampling: Sampling,
    order: str | None,
    unseen: str | None,
) -> GenerationRequest:
    values = _named(given)
    for name, codec in tokenizer.dense.items():
        if name in values and codec.is_cell(values[name]):
            values[name] = OneCell(values[name])
    if num_rows is None:
        lengths = [len(v) for v in values.values() if is_sequence(v)]
        if not lengths:
            raise GenerationError("how many rows? Say so, or give a condition for each")
        num_rows = lengths[0]
    return GenerationRequest(num_rows, seed, first_row, values, sampling, order, unseen)


def _named(given: Mapping[str, Any] | pd.DataFrame | None) -> dict[str, Any]:
    """Values of a mapping or a frame by column."""
    return {} if given is None else {str(name): given[name] for name in given.keys()}  # noqa: SIM118 (frames too)


def _yaml(value: Any) -> str:
    """A Python value as the text that an override takes."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_yaml(v) for v in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
