"""Enter: the figures of all scorers.
Leave: one Report: a dictionary of scores, a table to print, a JSON file, a picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_tabular.errors import ConfigError
from nemo_tabular.evaluate.scores import SCORES, Measured
from nemo_tabular.evaluate.tables import Tables
from nemo_tabular.evaluate.verdict import Verdict, verdicts

FORMAT = 1
"""Version of the JSON; it rises when a key changes its meaning."""


@dataclass(frozen=True)
class Report:
    """What `evaluate` returns. `print(report)` gives a table, `report.scores` plain numbers by name."""

    measured: Mapping[str, Measured]
    details: Mapping[str, Any] = field(repr=False)
    """Figures by column and by pair, and the association matrices."""
    notes: tuple[str, ...]
    """What was subsampled, left out, or looks wrong in the input."""
    tables: Tables = field(repr=False)
    target: str | None
    seed: int
    cpu_seconds: float

    @property
    def scores(self) -> dict[str, float]:
        return {name: m.figure.value for name, m in self.measured.items()}

    @property
    def verdicts(self) -> list[Verdict]:
        """One grade and one sentence an area."""
        return verdicts(self.measured)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; NaN, which JSON does not know, becomes null."""
        t = self.tables
        return _plain(
            {
                "format": FORMAT,
                "sources": dict(t.names),
                "rows": {"train": t.train.rows, "test": t.test.rows, "synthetic": t.synthetic.rows},
                "columns": [{"name": c.name, "kind": c.kind} for c in t.columns],
                "target": self.target,
                "seed": self.seed,
                "cpu_seconds": round(self.cpu_seconds, 2),
                "verdicts": [vars(v) for v in self.verdicts],
                "scores": {name: self._score_entry(name, m) for name, m in self.measured.items()},
                "details": self.details,
                "notes": list(self.notes),
            }
        )

    def _score_entry(self, name: str, m: Measured) -> dict[str, Any]:
        d, f = SCORES[name], m.figure
        return {
            "value": f.value, "low": f.low, "high": f.high, "ceiling": m.ceiling, "floor": m.floor,
            "valid": m.valid, "fault": m.fault, "area": d.area, "title": d.title, "better": d.better,
            "means": d.means, "blind_to": d.blind,
        }  # fmt: skip

    def to_json(self, path: str | Path) -> None:
        """Write `to_dict()`; folders on the way are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )

    def to_html(self, path: str | Path, *, title: str = "") -> None:
        """Write one page that needs no other file and no network (needs matplotlib)."""
        from nemo_tabular.evaluate.page import write_page

        write_page(self, path, title=title)

    def save(self, folder: str | Path, *, title: str = "") -> None:
        """report.html, plots/*.png and report.json in one folder, made if need be (needs matplotlib).

        report.json comes last: where it stands, the rest is there.
        """
        from nemo_tabular.evaluate.page import write_page
        from nemo_tabular.evaluate.pictures import draw_pictures

        pictures = draw_pictures(self)
        plots = Path(folder) / "plots"
        plots.mkdir(parents=True, exist_ok=True)
        write_page(self, Path(folder) / "report.html", title=title, pictures=pictures)
        for picture in pictures:
            (plots / picture.file_name).write_bytes(picture.png)
        self.to_png(plots / "overview.png", title=title)
        self.to_json(Path(folder) / "report.json")

    def to_png(self, path: str | Path, **options: Any) -> None:
        """Draw the marginals side by side and the association matrices (needs matplotlib)."""
        from nemo_tabular.evaluate.plots import draw_report

        draw_report(self, path, **options)

    def __str__(self) -> str:
        t = self.tables
        real = f"{t.train.rows:,} training and {t.test.rows:,} test rows"
        lines = [f"{t.synthetic.rows:,} synthetic rows against {real}"]
        width = max([len(SCORES[n].title) for n in self.measured] or [0])
        lines.append(f"{'':{width}}   synthetic            95 %   real rows  {'floor':>10}")
        area, graded = "", {v.area: v.grade for v in self.verdicts if v.grade != "open"}
        for name, m in self.measured.items():
            if SCORES[name].area != area:
                area = SCORES[name].area
                lines += ["", f"{area}: {graded[area]}" if area in graded else area]
            lines.append(_line(name, m, width))
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def report_place(path: str | Path) -> Path:
    """Where a report goes, seen to before the work begins: a folder, made here, or a .json for its figures
    alone. Raises ConfigError for what can be neither.
    """
    place = Path(path)
    if place.suffix.lower() == ".json" and not place.is_dir():
        return place
    if place.suffix.lower() in (".html", ".png") or place.is_file():
        raise ConfigError(
            f"{path}: a report is a folder of several files, e.g. -o report, or its figures alone, "
            "e.g. -o report.json"
        )
    place.mkdir(parents=True, exist_ok=True)
    return place


def _line(name: str, m: Measured, width: int) -> str:
    interval = (
        ""
        if m.figure.low is None or m.figure.high is None
        else f"{_short(m.figure.low)}-{_short(m.figure.high)}"
    )
    text = (
        f"{SCORES[name].title:{width}} {_short(m.figure.value):>11} {interval:>15} {_short(m.ceiling):>11} "
    )
    return f"{text} {_short(m.floor):>10}" + ("" if m.valid else f"  not valid here: {m.fault}")


def _short(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
