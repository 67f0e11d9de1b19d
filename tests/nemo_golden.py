"""NeMo's own tokenizer, unmodified from its wheel, comes in; pickles and what it makes of texts leave.

`python tests/nemo_golden.py` writes tests/data/nemo anew: only when NeMo or the cases below change.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data" / "nemo"
TRANSFORMS = ("quantile", "yeo-johnson", "robust")


def make(coder: ModuleType, tokenizers: ModuleType, transform: str, fillall: bool, rows: int = 60) -> Any:
    """A TabularTokenizer fitted to a small mixed table, and that table's rows as a NeMo user writes them."""
    r = np.random.default_rng(11)
    # Repeated ends: there the quantile transform's two interpolations differ.
    price = np.clip(np.round(np.exp(r.normal(3, 2, rows)), 3), 1.5, 160.25)
    change = np.round(r.standard_t(3, rows) * 12.5, 4)
    units = r.integers(-40, 90_000, rows)
    kind = r.choice(["Private", "State gov", "nan", "süß", ">50K"], rows)
    numbers = {"fillall": fillall, "hasnan": True}
    spec = [
        {
            "name": "price",
            "code_type": "float",
            "args": {"code_len": 5, "base": 32, "transform": transform} | numbers,
        },
        {"name": "kind", "code_type": "category"},
        {"name": "units", "code_type": "int", "args": {"code_len": 4, "base": 47} | numbers},
        {
            "name": "change",
            "code_type": "float",
            "args": {"code_len": 4, "base": 100, "transform": transform} | numbers,
        },
    ]
    arrays = {"price": price, "kind": np.unique(kind), "units": units, "change": change}
    fitted = tokenizers.TabularTokenizer(coder.ColumnCodes.get_column_codes(spec, arrays))
    # The second half is new to the coder, so that with fillall=False digits come up that have no id.
    fresh = r.permutation(rows)
    price = np.append(price, np.round((price + price[fresh]) / 2, 3)).tolist()
    units = np.append(units, (units + units[fresh]) // 2)
    change = np.append(change, np.round((change + change[fresh]) / 2, 4)).tolist()
    columns = zip(price, [*kind, *kind], units, change, strict=True)
    return fitted, [*(f"{a!r},{b},{c},{d!r}" for a, b, c, d in columns), "nan,State gov,nan,nan"]


def texts_of(lines: list[str]) -> list[str]:
    """Whole tables, documents, rows that begin or end amid a row."""
    table = "\n".join(lines)
    return [
        table,
        table + "<|endoftext|>",
        "\n".join(lines[:3]) + "<|endoftext|>" + "\n".join(lines[3:6]),
        lines[0].split(",", 2)[2] + "\n" + lines[1],
        lines[0] + "\n" + lines[1].rsplit(",", 2)[0],
        lines[4] + "\n\n" + lines[5] + "\n",
        " " + lines[7].replace(",", " , "),
    ]


def any_ids(tokenizer: Any, rows: int = 40) -> list[int]:
    """Rows of random ids, each allowed at its place."""
    r = np.random.default_rng(5)
    out: list[int] = []
    for _ in range(rows):
        for name in tokenizer.code_column.columns:
            out += [int(r.integers(a, b)) for a, b in tokenizer.code_column.column_codes[name].code_range]
        out.append(tokenizer.eor)
    return out


def answers(tokenizer: Any, lines: list[str]) -> dict[str, Any]:
    """What the tokenizer, NeMo's or ours, makes of the texts and ids."""
    texts = texts_of(lines)
    ids = [tokenizer.text_to_ids(text) for text in texts]
    return {"texts": texts, "ids": ids, "back": [tokenizer.ids_to_text(part) for part in ids]}


def write(coder: ModuleType, tokenizers: ModuleType) -> None:
    """The golden files: of each transform the pickle in one protocol, and NeMo's answers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for transform, protocol, fillall in zip(TRANSFORMS, (2, 4, 5), (True, False, True), strict=True):
        tokenizer, lines = make(coder, tokenizers, transform, fillall)
        whole = tokenizer if transform == "robust" else tokenizer.code_column
        (FOLDER / f"{transform}.pkl").write_bytes(pickle.dumps(whole, protocol))
        some = any_ids(tokenizer)
        golden = answers(tokenizer, lines)
        golden |= {"any_ids": some, "any_text": [tokenizer.ids_to_text(some[cut:]) for cut in (0, 1, 6, 9)]}
        golden |= {"vocab_size": tokenizer.vocab_size, "columns": tokenizer.code_column.columns}
        text = (
            json.dumps(golden, ensure_ascii=False).replace('"texts"', '\n"texts"').replace('"ids"', '\n"ids"')
        )
        (FOLDER / f"{transform}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from benchmarks.nemo_wheel import load

    write(*load())
