"""A saved model comes in; the generator of its tables leaves, found by the model's family."""

from collections.abc import Callable

from ..models.saved import SavedModel
from .documents import DocumentDecoder
from .histories import HistoryStream
from .sets import SetStream
from .stream import RowStream
from .trie import RowDecoder, placement

Stream = RowStream | HistoryStream | SetStream


def _rows(model: SavedModel) -> Stream:
    dtype, device = placement(model.config.hidden_size)
    return RowStream(RowDecoder(model.weights(), dtype, device=device), model.plan, model.tokenizer)


def _histories(model: SavedModel) -> Stream:
    dtype, device = placement(model.config.hidden_size)
    decoder = DocumentDecoder(
        model.weights(),
        dtype,
        context_rows=model.context_rows,
        rising=model.plan.rising_slots(model.tokenizer),
        device=device,
    )
    return HistoryStream(decoder, model.plan, model.tokenizer, model.longest_document)


STREAMS: dict[tuple[str, bool], Callable[[SavedModel], Stream]] = {
    ("gpt", False): _rows,
    ("gpt", True): _histories,
    ("cgm", False): SetStream,
}


def open_stream(model: SavedModel) -> Stream:
    """The stream of a model's kind, of rows or of histories."""
    return STREAMS[model.config.kind, model.histories](model)
