"""The column types that the documentation and the examples show, run as they stand there."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nemo_tabular import Synthesizer
from nemo_tabular.errors import FeatureError, GenerationError
from nemo_tabular.features import find_feature
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.testing import check_feature

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "features.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.S)


def test_the_guides_example_runs_as_it_stands():
    found = {}
    for block in blocks("python"):
        exec(compile(block, str(GUIDE), "exec"), found)
    example = next(block for block in blocks("python") if "class Direction" in block)
    assert len(example.splitlines()) <= 60
    wind = np.array([cell[0] for cell in found["rows"].wind])
    assert (np.abs((wind - 350 + 180) % 360 - 180) < 45).mean() > 0.8  # across the north


def test_the_guides_schema_is_one():
    import yaml

    schema = Schema.from_dict({"columns": yaml.safe_load(blocks("yaml")[0])})
    assert [c.feature for c in schema.columns] == [
        "mixture",
        "text",
        "image",
        "series",
    ]


@pytest.fixture(scope="module")
def gan():
    spec = importlib.util.spec_from_file_location("gan_image", ROOT / "examples" / "gan_image.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.GanImageFeature


def test_the_gan_keeps_the_promises_of_a_type_without_likelihood(gan):
    check_feature(gan)


def test_a_gan_learns_what_the_label_says_and_is_not_scored(gan):
    r = np.random.default_rng(0)
    kind = r.integers(0, 2, 600)
    pictures = [(np.full((3, 4), 6 * k) + r.integers(0, 3, (3, 4))).astype(np.uint8) for k in kind]
    table = pd.DataFrame({"kind": np.array(["dark", "light"])[kind], "picture": pictures})
    schema = infer_schema(open_table(table), overrides={"picture": {"feature": "gan_image"}})
    quick = {
        "model__hidden_size": 32,
        "trainer__max_steps": 400,
        "trainer__num_threads": 1,
        "optim__lr": 1e-3,
        "optim__adam_beta1": 0.5,
    }
    model = Synthesizer("cgm", **quick, trainer__final_fit=False).fit(table, schema=schema)
    assert model.model.info["best_nll"] < 1.0  # the label's nats alone
    rows = model.sample(200, seed=1)
    light = rows.picture.map(np.mean)[rows.kind == "light"].mean()
    assert light > rows.picture.map(np.mean)[rows.kind == "dark"].mean() + 3
    p = model.predict_proba(table, "kind")
    assert (p.columns[p.to_numpy().argmax(1)] == table.kind).mean() > 0.95
    with pytest.raises(GenerationError, match=r"'picture' has feature 'gan_image', which has no likelihood"):
        model.log_prob(table)
    assert np.isfinite(model.log_prob(table, columns=["kind"], given=["picture"])).all()


PACKAGE = '''
from nemo_tabular.features.mixture import MixtureFeature

class Mine(MixtureFeature):
    """Found by its entry point."""
    name = "mine_by_entry_point"
'''


def test_types_of_installed_packages_are_found_by_their_entry_point(tmp_path):
    (tmp_path / "their_types.py").write_text(PACKAGE)
    info = tmp_path / "their_types-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-types\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nemo_tabular.features]\nmine_by_entry_point = their_types\n")
    call = (
        "from nemo_tabular.features import find_feature; "
        "print(find_feature('mine_by_entry_point', 'c').__doc__)"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", call], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "Found by its entry point.", done.stderr


def test_an_unknown_type_names_the_nearest():
    with pytest.raises(
        FeatureError, match=r"column 'c': there is no feature 'mixtur' \(did you mean 'mixture'\?\)"
    ):
        find_feature("mixtur", "c")
