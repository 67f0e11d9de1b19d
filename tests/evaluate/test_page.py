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
    report = evaluate(*frames, target="rich", references=False)
    folder = tmp_path_factory.mktemp("report")
    report.save(folder / "new")
    assert {p.name for p in (folder / "new").iterdir()} == {"report.html", "report.json", "report.png"}
    return report, (folder / "new" / "report.html").read_text("utf-8")


def test_the_page_is_whole_and_needs_nothing_else(page):
    _, text = page
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.scripts == 0
    assert len(checker.images) == 6 + 3
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
