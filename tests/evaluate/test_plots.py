import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import ConfigError
from nemo_tabular.evaluate import evaluate
from nemo_tabular.evaluate.canvas import shortened
from nemo_tabular.evaluate.panels import bar_shares, bin_edges, compact, value_set_aside
from nemo_tabular.evaluate.tables import ColumnView, align

pytest.importorskip("matplotlib", reason="pictures are an extra")


def size_of(path):
    from matplotlib.image import imread

    return imread(path).shape


def test_a_picture_of_every_kind_of_column(train, test, synthetic, tmp_path):
    frames = [
        f.assign(
            **{"$ {odd} name\n$": f["job"], "empty": np.nan, "漢字": [f"値{i % 300}" for i in range(len(f))]}
        )
        for f in (train, test, synthetic)
    ]
    report = evaluate(*frames, scores=["fidelity"], references=False)
    report.to_png(tmp_path / "new" / "report.png")
    height, width, _ = size_of(tmp_path / "new" / "report.png")
    assert width == 1950 and height > 1000


def test_wide_tables_show_the_worst_columns(train, test, synthetic, tmp_path):
    report = evaluate(train, test, synthetic, scores=["shapes"], references=False)
    report.to_png(tmp_path / "few.png", max_columns=2)
    report.to_png(tmp_path / "all.png")
    assert size_of(tmp_path / "few.png")[0] < size_of(tmp_path / "all.png")[0]


def test_only_png(train, test, synthetic):
    report = evaluate(train, test, synthetic, scores=["copies"])
    with pytest.raises(ConfigError, match=r"x.jpg: the picture is a PNG; give a path that ends in .png"):
        report.to_png("x.jpg")


def test_bars_add_up_and_name_the_rest():
    values = pd.DataFrame({"x": [f"{i % 30:02d}x" for i in range(3000)]})
    tables = align(values, values, values)
    names, p, q = bar_shares(tables.column("x"), tables.train["x"], tables.synthetic["x"])
    assert names[-1] == "22 others" and len(names) == 9
    assert p.sum() == pytest.approx(1) and np.array_equal(p, q)


def test_whole_numbers_have_whole_bins():
    values = np.arange(0.0, 1000)
    edges, logarithmic = bin_edges(ColumnView("x", "number", integer=True), values, values)
    assert not logarithmic
    assert np.all(np.diff(edges) == np.diff(edges)[0]) and edges[0] % 1 == 0.5 and np.diff(edges)[0] % 1 == 0
    assert edges[0] < 1 and edges[-1] > 998


def test_long_tails_are_logarithmic():
    values = np.exp(np.random.default_rng(0).normal(0, 3, 5000))
    assert bin_edges(ColumnView("x", "number"), values, values)[1]


def test_a_dominant_value_is_set_aside():
    values = np.concatenate([np.zeros(700), np.random.default_rng(0).normal(5, 1, 300)])
    assert value_set_aside(values) == 0
    assert value_set_aside(values[700:]) is None


@pytest.mark.parametrize(("value", "text"), [(1500, "1500"), (15000, "15k"), (2.5e6, "2.5M"), (0.25, "0.25")])
def test_ticks_are_compact(value, text):
    assert compact(value) == text


def test_names_are_one_short_line():
    assert shortened("a\nb   c") == "a b c"
    assert shortened("x" * 40, 10) == "x" * 9 + "…"
