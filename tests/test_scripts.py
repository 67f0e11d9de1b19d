"""The ten-line callers of scripts/, run one after the other: the four are the pipeline too."""

import runpy
import sys
from pathlib import Path

from small_table import small_table

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_the_scripts_are_the_pipeline(pipeline, tmp_path, monkeypatch, capsys):
    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return capsys.readouterr().out

    store, trained, synthetic, test = (tmp_path / name for name in ("store", "run", "out.csv", "test.csv"))
    small_table(200, seed=2).to_csv(test, index=False)
    assert "train, validation, 9 tokens a row" in run("prepare.py", pipeline.table, store)
    assert "nats a row" in run("train_gpt.py", pipeline.recipe, f"data.store={store}", f"run.dir={trained}")
    run("generate.py", trained, 150, synthetic)
    assert len(synthetic.read_text().splitlines()) == 151
    assert "Column shapes" in run("evaluate.py", pipeline.table, test, synthetic)
