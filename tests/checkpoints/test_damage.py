"""A checkpoint with one wrong bit, a short file or a missing one is named, and the one before it is used."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from jobs import checkpoints, digest

from nemo_tabular.engine.ranks import join
from nemo_tabular.train.checkpoints import Checkpoints

SETTINGS = ["trainer.save_every_n_steps=4", "trainer.val_check_interval=100"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


FILES = [
    *("manifest.json", "state.json", "tokenizer.json"),
    *(
        f"megatron/{name}"
        for name in (".metadata", "common.pt", "metadata.json", "__0_0.distcp", "__1_0.distcp")
    ),
]


def test_every_file_is_in_the_list_above(finished):
    folder = finished(*SETTINGS, "model.tensor_model_parallel_size=2", ranks=2) / "checkpoints" / "latest"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(FILES)
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted([*manifest, "manifest.json"]) == sorted(FILES)


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
def test_each_file_in_turn(finished, tmp_path, caplog, harm):
    """One process looks at what two have written."""
    join()
    run = finished(*SETTINGS, "model.tensor_model_parallel_size=2", ranks=2)
    assert checkpoints(run) == ["step-00000012", "step-00000015"]
    for file in FILES:
        copy = tmp_path / file.replace("/", "-")
        shutil.copytree(run / "checkpoints", copy, symlinks=True)
        harm(copy / "step-00000015" / file)
        reader = Checkpoints(copy)
        caplog.clear()
        with caplog.at_level("WARNING", logger="nemo_tabular"):
            found = reader.newest()
        reader.close()
        assert found.folder == copy / "step-00000012", file
        assert str(copy / "step-00000015" / file) in caplog.text
        assert "missing" in caplog.text or "damaged" in caplog.text


def test_all_ranks_agree_on_the_older_one(jobs, finished, copy_of):
    """The second rank's shard is damaged: both go back, and end where they would have ended."""
    whole = finished(*SETTINGS, "model.tensor_model_parallel_size=2", ranks=2)
    run = copy_of(whole)
    flip(run / "checkpoints" / "step-00000015" / "megatron" / "__1_0.distcp")
    said = jobs.run(run, *SETTINGS, "model.tensor_model_parallel_size=2", ranks=2)
    assert said.count("__1_0.distcp: damaged (its sha256 is not that of what was written)") == 1
    assert "fit: steps 12 to 15" in said
    assert digest(run) == digest(whole)
    # and the damaged one is gone, replaced by its whole twin
    assert "damaged" not in jobs.run(run, *SETTINGS, "model.tensor_model_parallel_size=2", ranks=2)


def test_when_none_is_whole_nothing_is_loaded(jobs, finished, copy_of):
    run = copy_of(finished(*SETTINGS, "model.tensor_model_parallel_size=2", ranks=2))
    for name in checkpoints(run):
        truncate(run / "checkpoints" / name / "state.json")
    job = jobs.start(run, *SETTINGS, "model.tensor_model_parallel_size=2", ranks=2)
    assert job.wait() == 2
    assert "no whole checkpoint is left" in job.log.read_text()


def test_a_damaged_best_is_told_and_another_found(jobs, finished, copy_of):
    run = copy_of(finished(ranks=None))
    assert (run / "checkpoints" / "best").resolve().name == "step-00000015"
    shutil.rmtree(run / "checkpoints" / "step-00000015")
    said = jobs.run(run)
    assert (run / "model").exists(), said


class Trap:
    """What a pickle can do to whoever trusts it."""

    def __reduce__(self):
        return os.system, ("touch sprung",)


def test_an_index_that_names_other_code_is_refused(jobs, finished, copy_of, tmp_path):
    """Someone who can write the files can also write their sha256."""
    run = copy_of(finished())
    folder = run / "checkpoints" / "step-00000015"
    index = pickle.dumps(Trap())
    (folder / "megatron" / ".metadata").write_bytes(index)
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    manifest["megatron/.metadata"] = [hashlib.sha256(index).hexdigest(), len(index)]
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"sha256": own, "files": manifest}))
    job = jobs.start(run)
    assert job.wait() == 2
    assert "system, which is not admitted: not written by this program" in job.log.read_text()
