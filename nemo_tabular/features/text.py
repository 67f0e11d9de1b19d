"""Texts of any length: a recurrent network reads their bytes, and another writes them, byte after byte.

Only valid UTF-8 of at most the column's longest has any probability: what cannot follow is masked out, in the
loss as in drawing.

Shapes: N texts, L bytes and the end, E embedding.
"""

from functools import lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..codecs import BytesCodec
from ..codecs.bytes import END
from ..schema import Column
from .base import Feature
from .draw import Draw

SYMBOLS = 257  # bytes and END
LONGEST_CHARACTER = 4

# What may follow: state -> (first byte, last byte, next state); state 0 is between characters
GRAMMAR = {
    0: [(0x00, 0x7F, 0), (0xC2, 0xDF, 1), (0xE0, 0xE0, 3), (0xE1, 0xEC, 2), (0xED, 0xED, 4), (0xEE, 0xEF, 2),
        (0xF0, 0xF0, 6), (0xF1, 0xF3, 5), (0xF4, 0xF4, 7)],
    1: [(0x80, 0xBF, 0)], 2: [(0x80, 0xBF, 1)], 3: [(0xA0, 0xBF, 1)], 4: [(0x80, 0x9F, 1)],
    5: [(0x80, 0xBF, 2)], 6: [(0x90, 0xBF, 2)], 7: [(0x80, 0x8F, 2)],
}  # fmt: skip
MISSING = (0, 1, 2, 2, 2, 3, 3, 3)
"""Bytes that a character in each state still needs."""


@lru_cache(maxsize=1)
def grammar() -> tuple[Tensor, Tensor]:
    """(bool (room, state, symbol) of what may follow, int64 (state, symbol) of the state after it); `room`:
    bytes that may still come, at most 4."""
    allowed = np.zeros((LONGEST_CHARACTER + 1, len(GRAMMAR), SYMBOLS), bool)
    after = np.zeros((len(GRAMMAR), SYMBOLS), np.int64)
    for state, ranges in GRAMMAR.items():
        for first, last, then in ranges:
            after[state, first : last + 1] = then
            for room in range(1 + MISSING[then], LONGEST_CHARACTER + 1):
                allowed[room, state, first : last + 1] = True
    allowed[:, 0, END] = True
    return torch.from_numpy(allowed), torch.from_numpy(after)


class ByteEncoder(nn.Module):
    """(N, L) symbols -> (N, H): the state after the end."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width // 2)
        self.reader = nn.GRU(width // 2, width, batch_first=True)
        self.out = nn.Linear(width, hidden)

    def forward(self, symbols: Tensor) -> Tensor:
        states, _ = self.reader(self.embedding(symbols))
        end = (symbols == END).int().argmax(1)
        return self.out(states[torch.arange(len(symbols), device=end.device), end])


class ByteDecoder(nn.Module):
    """Logits of the next symbol from those before it and the context."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width // 2)
        self.start, self.shift = nn.Linear(hidden, width), nn.Linear(hidden, width // 2)
        self.writer = nn.GRU(width // 2, width, batch_first=True)
        self.out = nn.Linear(width, SYMBOLS)

    def begin(self, context: Tensor) -> Tensor:
        """The state before the first byte, (1, N, width)."""
        return self.start(context).tanh().unsqueeze(0)

    def forward(self, context: Tensor, before: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, L, symbols) after each of the symbols `before` (N, L), and the state after them."""
        inputs = self.embedding(before) + self.shift(context).unsqueeze(1)
        states, state = self.writer(inputs, state)
        return self.out(states), state


class TextFeature(Feature):
    """Options: width (128) of the networks, and the codec's max_bytes."""

    name: ClassVar[str] = "text"
    reads: ClassVar[str] = "bytes"
    codec: BytesCodec

    def __init__(self, codec: BytesCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        width = self.settings(width=128)["width"]
        self.encoder, self.decoder = ByteEncoder(hidden_size, width), ByteDecoder(hidden_size, width)

    def encode(self, cells: Tensor) -> Tensor:
        assert self.encoder is not None
        return self.encoder(cells.long())

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        decoder = self.decoder
        assert isinstance(decoder, ByteDecoder)
        symbols = cells.long()
        before = functional.pad(symbols[:, :-1], (1, 0), value=END)
        logits, _ = decoder(context, before, decoder.begin(context))
        logits = logits.masked_fill(~self._may_follow(symbols), -torch.inf)
        nats = functional.cross_entropy(logits.transpose(1, 2), symbols, reduction="none")
        written = (symbols == END).cumsum(1) - (symbols == END).long() == 0  # up to the first END, and that
        return torch.where(written, nats, 0.0).sum(1)

    def _may_follow(self, symbols: Tensor) -> Tensor:
        """bool (N, L, symbols): what may stand at each place, after what stands before it."""
        allowed, after = (table.to(symbols.device) for table in grammar())
        states = [symbols.new_zeros(len(symbols))]
        for place in range(symbols.shape[1] - 1):
            states.append(after[states[-1], symbols[:, place]])
        room = self.codec.max_bytes - torch.arange(symbols.shape[1], device=symbols.device)
        return allowed[room.clamp(0, LONGEST_CHARACTER), torch.stack(states, 1)]

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        decoder, (allowed, after) = self.decoder, grammar()
        assert isinstance(decoder, ByteDecoder)
        memory = decoder.begin(context)
        last = torch.full((len(context), 1), END)
        state = torch.zeros(len(context), dtype=torch.int64)
        written: list[Tensor] = []
        for place in range(self.codec.max_bytes + 1):
            logits, memory = decoder(context, last, memory)
            room = min(self.codec.max_bytes - place, LONGEST_CHARACTER)
            chosen = draw.choose(logits[:, 0].masked_fill(~allowed[room][state], -torch.inf))
            if written:
                chosen = torch.where(written[-1] == END, END, chosen)
            written.append(chosen)
            if bool((chosen == END).all()):
                break
            state, last = after[state, chosen], chosen.unsqueeze(1)
        return torch.stack(written, 1).short()

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """Texts of at most two bytes."""
        words = np.random.default_rng(seed).choice(
            ["", "a", "ab", "é", "b!"], rows, p=[0.1, 0.3, 0.3, 0.2, 0.1]
        )
        column = Column("note", "text", "string", "bytes", feature=cls.name, options={"width": 32})
        return column, pa.array(words.tolist())
