"""Enter: a Report.
Leave: a page of verdicts, pictures, what gives the synthetic rows away, rules, and every score explained.

One file without scripts or links: it opens offline, in a mail, on a phone.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_tabular.evaluate.canvas import REAL_FILL, SYNTHETIC
from nemo_tabular.evaluate.pictures import Picture, draw_pictures
from nemo_tabular.evaluate.scores import SCORES, Measured
from nemo_tabular.evaluate.verdict import GOOD_AUC, part_of_way, told_apart

if TYPE_CHECKING:
    from nemo_tabular.evaluate.report import Report

AREAS = {
    "fidelity": "Does it look like the real table?",
    "histories": "Do its histories run like real ones?",
    "detection": "Can a machine tell it apart?",
    "utility": "Is it good for training models?",
    "privacy": "Does it give real rows away?",
}
MARKS = {"good": "✓", "fair": "≈", "poor": "✗", "open": "?"}
SECTIONS = ("columns", "associations", "histories", "privacy")
MAX_RULES = 30

CSS = """
:root{--ink:#1d2430;--soft:#5b6675;--line:#e3e7ec;--good:#00785a;--fair:#9a6500;--poor:#b3261e;--open:#5b6675}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--ink);
background:#f5f6f8}
main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:1.7rem;margin:.2em 0 .1em;line-height:1.2}
h2{font-size:1.2rem;margin:2.2em 0 .5em}
p{margin:.4em 0;max-width:75ch}.soft,small{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:14px;margin-top:18px}
.card{background:#fff;border:1px solid var(--line);border-top:5px solid var(--c);border-radius:8px;
padding:14px 16px}
.card h3{margin:0 0 .3em;font-size:1rem}.card p{margin:0;font-size:.93rem}
.grade{color:var(--c);font-weight:700;margin:0 0 .35em!important}
.good{--c:var(--good)}.fair{--c:var(--fair)}.poor{--c:var(--poor)}.open{--c:var(--open)}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px}
.single{max-width:640px}
.panels img,.pairs img,.single img{width:100%;height:auto;display:block;background:#fff;
border:1px solid var(--line);border-radius:8px}
.key span{display:inline-block;width:22px;height:12px;margin:0 6px 0 14px;vertical-align:-1px}
.scroll{overflow-x:auto;background:#fff;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{padding:7px 12px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--soft);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.figures td{border-bottom:0;padding-bottom:0;font-weight:600}
td.means{color:var(--soft);padding-top:2px;white-space:normal}tr.area td{background:#f5f6f8;font-weight:600}
td.wide{width:60%}td.away{background:#fbe3d2;font-weight:600}td.cell{white-space:nowrap}
.bar{display:inline-block;height:10px;background:#D55E00;border-radius:2px;vertical-align:0}
tr.figures small{font-weight:400;white-space:nowrap}
.way{display:inline-block;width:110px;height:8px;background:#e3e7ec;border-radius:4px;overflow:hidden;
position:relative}.way>span{display:block;height:8px;background:#0072B2}
.way::after{content:"";position:absolute;left:100px;top:0;width:2px;height:8px;background:#1d2430}
ul{padding-left:1.2em}li{margin:.25em 0;overflow-wrap:anywhere}
@media(max-width:520px){main{padding:14px 12px 40px}h1{font-size:1.35rem}
th,td{padding:6px 8px}.i{display:none}}
@media print{body{background:#fff}.panels,.cards{break-inside:avoid}}
"""


def write_page(
    report: Report, path: str | Path, *, title: str = "", pictures: Sequence[Picture] | None = None
) -> None:
    """Write the page; folders on the way are made. Raises ConfigError without matplotlib."""
    title = title or "Synthetic table report"
    pictures = draw_pictures(report) if pictures is None else pictures
    shown = {name: [p for p in pictures if p.section == name] for name in SECTIONS}
    sections = [
        _head(report, title),
        _cards(report),
        _panels(report, shown["columns"]),
        _associations(shown["associations"]),
        _histories(shown["histories"]),
        _giveaways(report),
        _closest_records(shown["privacy"]),
        _rules(report),
        _blindness(report),
        _scores(report),
        _notes(report),
    ]
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(s for s in sections if s)
        + "\n</main></body></html>\n"
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def _head(report: Report, title: str) -> str:
    t = report.tables
    sources = ", ".join(f"{role}: {Path(name).name}" for role, name in t.names.items() if name != role)
    sources = f"<p class=soft>{escape(sources)}</p>" if sources else ""
    return (
        f"<h1>{escape(title)}</h1><p class=soft>{t.synthetic.rows:,} synthetic rows, judged against "
        f"{t.train.rows:,} training rows and {t.test.rows:,} real rows that training has not seen; "
        f"{len(t.columns)} columns.</p>{sources}"
    )


def _cards(report: Report) -> str:
    cards = [
        f'<div class="card {v.grade}"><h3>{escape(AREAS[v.area])}</h3>'
        f"<p class=grade>{MARKS[v.grade]} {v.grade if v.grade != 'open' else 'not decided'}</p>"
        f"<p>{escape(v.sentence)}</p></div>"
        for v in report.verdicts
    ]
    return f"<div class=cards>{''.join(cards)}</div>"


# ---------------------------------------------------------------- pictures


def _images(pictures: Sequence[Picture], kind: str) -> str:
    images = (
        f'<img loading=lazy alt="{escape(p.words)}" src="data:image/png;base64,'
        f'{base64.b64encode(p.png).decode()}">'
        for p in pictures
    )
    return f"<div class={kind}>{''.join(images)}</div>"


def _panels(report: Report, pictures: Sequence[Picture]) -> str:
    more, columns = "", len(report.tables.columns)
    if len(pictures) < columns:
        more = f" Shown are the {len(pictures)} columns with the lowest scores of {columns}."
    return (
        "<h2>Column by column</h2><p class='soft key'>"
        f"<span style='background:{REAL_FILL};margin-left:0'></span>real"
        f"<span style='border:2px solid {SYNTHETIC}'></span>synthetic. "
        "Beside each name: similarity of the distributions, 1 = the same; a / b: real / synthetic."
        f"{more}</p>{_images(pictures, 'panels')}"
    )


def _associations(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return (
        "<h2>How the columns depend on each other</h2><p class=soft>Rank correlation of two numbers, "
        "correlation ratio of a number and a category, Cramér's V of two categories. The third picture, "
        f"the difference, has a scale of its own.</p>{_images(pictures, 'pairs')}"
    )


def _histories(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return (
        "<h2>How long histories are, and how fast they run</h2><p class=soft>Real filled, synthetic as a "
        f"line.</p>{_images(pictures, 'panels')}"
    )


def _closest_records(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return (
        "<h2>How near synthetic rows come to training rows</h2><p class=soft>Synthetic rows should come as "
        "near as real rows that training has not seen, not nearer: the two solid lines should be one. "
        "Dotted, what a copy of the training table would look like.</p>"
        f"{_images(pictures, 'single')}"
    )


# ---------------------------------------------------------------- tables


def _table(head: Iterable[tuple[str, str]], rows: Iterable[str]) -> str:
    cells = "".join(f'<th class="{kind}">{escape(name)}</th>' for name, kind in head)
    return f"<div class=scroll><table><tr>{cells}</tr>{''.join(rows)}</table></div>"


def _giveaways(report: Report) -> str:
    columns: Sequence[dict[str, Any]] = report.details.get("giveaways", [])
    rows: Sequence[dict[str, Any]] = report.details.get("easiest", [])
    if not columns or not rows:
        return ""
    most = max(c["auc_drop"] for c in columns)
    coin = "c2st" in report.measured and report.scores["c2st"] < GOOD_AUC
    chance = " The detector is hardly better than a coin here: much of this is chance." if coin else ""
    bars = [
        f"<tr><td class=cell>{escape(c['column'])}</td><td class=n>{c['auc_drop']:.4f}</td>"
        f"<td class=wide><span class=bar style='width:{100 * c['auc_drop'] / most:.0f}%'></span></td></tr>"
        for c in columns[:8]
    ]
    blamed = [name for r in rows for name in r["because"]]
    names = sorted(rows[0]["values"], key=lambda n: -blamed.count(n))  # seen without scrolling on a phone
    cells = [
        f"<tr><td class=n>{r['certainty']:.2f}</td>"
        + "".join(
            f'<td class="cell{" away" if n in r["because"] else ""}">{escape(_cut(r["values"][n]))}</td>'
            for n in names
        )
        + "</tr>"
        for r in rows
    ]
    return (
        "<h2>What gives the synthetic rows away</h2><p class=soft>How much worse the detector gets when a "
        "column is shuffled (loss of AUC on rows it has not seen).</p>"
        + _table([("column", ""), ("loss", "n"), ("", "")], bars)
        + "<p class=soft style='margin-top:1em'>The synthetic rows that the detector found easiest to tell; "
        f"marked are the values that gave them away.{chance}</p>"
        + _table([("certainty", "n"), *((n, "") for n in names)], cells)
    )


def _cut(text: str, length: int = 28) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _rules(report: Report) -> str:
    rules: Sequence[dict[str, Any]] = report.details.get("rules", [])
    if not rules:
        return ""
    rows = [
        f"<tr><td>{escape(r['rule'])}</td>"
        + "".join(f"<td class=n>{_percent(r[k])}</td>" for k in ("synthetic", "test"))
        + f"<td class='n i'>{_percent(r['train'])}</td>"
        + "</tr>"
        for r in rules[:MAX_RULES]
    ]
    more = f" The {MAX_RULES} most often broken of {len(rules)}." if len(rules) > MAX_RULES else ""
    return (
        "<h2>Rules of the real table</h2><p class=soft>Found in the training rows, and the share of rows "
        f"that break them.{more}</p>"
        + _table([("rule", ""), ("synthetic", "n"), ("unseen real", "n"), ("training", "n i")], rows)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}\u00a0%"


def _blindness(report: Report) -> str:
    """What the floor and the ceiling say about the scores themselves, on these tables."""
    blind, telling = told_apart(report.measured)
    if not blind and not telling:
        return ""
    lines = [
        f"<li><b>{escape(SCORES[n].title)}</b>: independent columns {_short(m.floor)}, real rows "
        f"{_short(m.ceiling)}</li>"
        for n, m in blind.items()
    ]
    told = ", ".join(escape(SCORES[n].title) for n in telling)
    return (
        "<h2>Which scores are blind to what</h2>"
        + (
            "<p>On this table columns drawn independently of each other, a worthless table, do about as well "
            f"as real rows on these scores; they say nothing about dependence:</p><ul>{''.join(lines)}</ul>"
            if lines
            else ""
        )
        + (f"<p>These do tell independent columns from real rows here: {told}.</p>" if told else "")
        + "<p>Copies of training rows would do best on all of fidelity, detection and utility; only the "
        "privacy scores see them. What each score cannot see stands beside it below.</p>"
    )


def _scores(report: Report) -> str:
    rows, area = [], ""
    for name, measured in report.measured.items():
        if SCORES[name].area != area:
            area = SCORES[name].area
            rows.append(f"<tr class=area><td colspan=5>{escape(area)}</td></tr>")
        rows.append(_score_row(name, measured))
    head = [("score", ""), *((name, "n") for name in ("synthetic", "real rows", "floor"))]
    return (
        "<h2>All scores</h2><p class=soft>Below each figure its 95\u00a0% interval. Real rows: what real "
        "rows in place of synthetic ones get. Floor: independently drawn columns, for privacy the training "
        "table itself. A score is worth as much as it tells these two apart; the bar shows how far the "
        "synthetic table is from the floor (left) to real rows (the mark at the right).</p>"
        + _table([*head, ("floor to real rows", "i")], rows)
    )


def _score_row(name: str, measured: Measured) -> str:
    d, f = SCORES[name], measured.figure
    interval = "" if f.low is None or f.high is None else f"{_short(f.low)} – {_short(f.high)}"
    means = escape(d.means) + (f"<br><small>Blind to: {escape(d.blind)}.</small>" if d.blind else "")
    if not measured.valid:
        means = f"<b>Not valid here: {escape(measured.fault)}.</b> " + means
    value = f"{_short(f.value)}<br><small>{interval}</small>"
    cells = "".join(
        f"<td class=n>{c}</td>" for c in (value, _short(measured.ceiling), _short(measured.floor))
    )
    figures_row = (
        f"<tr class=figures><td>{escape(d.title)}</td>{cells}<td class=i>{_way(name, measured)}</td></tr>"
    )
    return figures_row + f"<tr><td class=means colspan=5>{means}</td></tr>"


def _way(name: str, measured: Measured) -> str:
    """How far the figure is from the floor to the ceiling, as a bar; nothing where the two are one."""
    part = part_of_way(name, measured)
    if part is None or not measured.valid:
        return ""
    shown = min(max(part, 0.0), 1.1) / 1.1
    return f"<span class=way><span style='width:{100 * shown:.0f}%'></span></span>"


def _short(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _notes(report: Report) -> str:
    notes = [
        *report.notes,
        "The privacy scores try known attacks; passing them is no guarantee that nobody is recognised.",
        f"Seed {report.seed}; {report.cpu_seconds:.0f} CPU seconds.",
    ]
    return "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>"
