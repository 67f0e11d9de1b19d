import re
from html.parser import HTMLParser

import pytest

from nemo_tabular.evaluate import evaluate

pytest.importorskip("matplotlib", reason="the page shows pictures, which are an extra")


class Checker(HTMLParser):
    """Every opened tag is closed in order; images and links are collected."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.scripts, self.text = [], [], 0, []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag not in ("meta", "br"):
            self.open.append(tag)
        self.scripts += tag in ("script", "link")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(train, test, synthetic, tmp_path_factory):
    frames = [f.rename(columns={"gain": '<gain> & "co"'}) for f in (train, test, synthetic)]
    report = evaluate(*frames, target="rich")
    folder = tmp_path_factory.mktemp("report")
    report.save(folder / "new")
    assert {p.name for p in (folder / "new").iterdir()} == {"report.html", "report.json", "plots"}
    return report, (folder / "new" / "report.html").read_text("utf-8")


def test_the_page_is_whole_and_needs_nothing_else(page):
    _, text = page
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.scripts == 0
    assert len(checker.images) == 6 + 3 + 1
    assert all(i["src"].startswith("data:image/png;base64,") and i["alt"] for i in checker.images)
    assert not re.search(r"https?://", text)


def test_the_page_says_the_verdicts_first_and_every_score(page):
    report, text = page
    checker = Checker()
    checker.feed(text)
    words = "".join(checker.text)
    places = [words.index(v.sentence) for v in report.verdicts]
    assert len(places) == 4 and max(places) < words.index("Column by column")
    for name in ("shapes", "c2st", "utility_auc", "dcr_share"):
        assert f"{report.scores[name]:.4f}" in words
    assert "no guarantee" in words
    assert any('<gain> & "co"' in i["alt"] for i in checker.images), "names are shown as they are"
    assert "Copies of training rows would do best" in words
    assert "Column shapes: independent columns" in words, "what shapes is blind to is said with its figures"


def test_every_picture_of_the_page_is_a_png_of_its_own(train, test, synthetic, tmp_path):
    report = evaluate(train, test, synthetic, scores=["fidelity", "privacy"], references=False)
    report.save(tmp_path)
    files = {p.name: p.read_bytes() for p in (tmp_path / "plots").iterdir()}
    assert all(data.startswith(b"\x89PNG") for data in files.values())
    assert set(files) == {
        "overview.png", "privacy_closest_records.png", "associations_real.png", "associations_synthetic.png",
        "associations_synthetic_minus_real.png",
        *(f"columns_{i:02d}_{name}.png" for i, name in enumerate(train, 1)),
    }  # fmt: skip
