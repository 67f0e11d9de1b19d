"""A stream of tables and a request enter on every rank; the request's tables leave on rank 0, in order.

The request is cut into parts that are dealt out in turn: row i depends on (seed, i) only, so it matters to
nobody who makes it. A rank makes its next part while the others make theirs, and then waits until rank 0 has
taken it: memory does not grow with the rows, and no shared folder is needed.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from ..engine.ranks import Place, join
from ..errors import GenerationError

Asked_in = TypeVar("Asked_in", contravariant=True)
END, FAILED = 0, -1


class Request(Protocol):
    """What GenerationRequest and HistoryRequest are."""

    @property
    def count(self) -> int: ...

    @property
    def part_sizes(self) -> tuple[int, int]: ...

    def part(self, start: int, count: int) -> Any: ...


Asked = TypeVar("Asked", bound=Request)


class Stream(Protocol[Asked_in]):
    """What RowStream and HistoryStream are."""

    def tables(self, request: Asked_in) -> Iterator[pa.Table]: ...


def shared_tables(stream: Stream[Asked], request: Asked, here: Place) -> Iterator[pa.Table]:
    """On rank 0 what `stream.tables(request)` gives, made by all ranks together; on the others nothing, when
    their share is made and taken.

    Raises GenerationError on rank 0 too where another rank could not make its share.
    """
    if here.size == 1:
        yield from stream.tables(request)
        return
    group = _gloo()
    for number, part in enumerate(parts_of(request, here.size)):
        maker = number % here.size
        if here.rank == 0:
            yield from stream.tables(part) if maker == 0 else _received(maker, group)
        elif here.rank == maker:
            _send_all(stream, part, group)


def agreed(rows: int, here: Place) -> int:
    """Rank 0's number on all ranks, once it has come so far: the file is whole when it is known."""
    if here.size == 1:
        return rows
    number = torch.tensor([rows])
    dist.broadcast(number, 0, group=_gloo())
    return int(number)


def parts_of(request: Asked, ranks: int) -> Iterator[Asked]:
    """Requests that together are this one, in order; at least one, be it empty."""
    fewest, most = request.part_sizes
    size = min(most, max(fewest, -(-request.count // ranks)))
    for start in range(0, max(request.count, 1), size):
        yield request.part(start, min(size, request.count - start))


def _gloo() -> dist.ProcessGroup | None:
    """A group that carries bytes of main memory; None: the default one does."""
    join()
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def _send_all(stream: Stream[Asked], part: Asked, group: dist.ProcessGroup | None) -> None:
    try:
        for table in stream.tables(part):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            _send(sink.getvalue(), group)
    except GenerationError as error:
        _send_number(FAILED, group)
        _send(str(error).encode(), group)
        raise
    _send_number(END, group)


def _send_number(number: int, group: dist.ProcessGroup | None) -> None:
    try:
        dist.send(torch.tensor([number]), 0, group=group)
    except RuntimeError as error:
        raise GenerationError(f"rank 0, which writes, has gone; its own message says why ({error})") from None


def _send(data: pa.Buffer | bytes, group: dist.ProcessGroup | None) -> None:
    _send_number(len(data), group)
    dist.send(torch.from_numpy(np.frombuffer(data, np.uint8).copy()), 0, group=group)


def _received(maker: int, group: dist.ProcessGroup | None) -> Iterator[pa.Table]:
    number = torch.zeros(1, dtype=torch.int64)

    def data() -> bytes:
        text = torch.empty(int(number), dtype=torch.uint8)
        dist.recv(text, maker, group=group)
        return text.numpy().tobytes()

    try:
        while True:
            dist.recv(number, maker, group=group)
            if number == END:
                return
            if number == FAILED:
                dist.recv(number, maker, group=group)
                raise GenerationError(f"rank {maker}: {data().decode()}")
            yield pa.ipc.open_stream(data()).read_all()
    except RuntimeError as error:
        raise GenerationError(f"rank {maker} has gone before its share was made: {error}") from None
