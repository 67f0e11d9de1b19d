"""Real launchers and real ranks: srun's variables, torchrun on the command line, a shared generation."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.synthesizer import Synthesizer


def test_ranks_that_srun_started_meet(ranks):
    assert ranks(3, "launch_scenario.meet_as_srun_does") == [[rank, 3, 3] for rank in range(3)]


def test_rows_of_four_ranks_are_those_of_one(ranks, pipeline, tmp_path):
    alone, shared = tmp_path / "alone.csv", tmp_path / "shared.csv"
    arguments = {"run": str(pipeline.run), "num_rows": 20_000, "seed": 5, "first_row": 3}
    assert ranks(1, "launch_scenario.generated", out=str(alone), **arguments) == [20_000]
    assert ranks(4, "launch_scenario.generated", out=str(shared), **arguments) == [20_000] * 4
    assert shared.read_bytes() == alone.read_bytes()
    cities = ["Paris", 'the "Hague"', "Paris"]  # row i has city i % 3, whoever makes it
    arguments |= {"num_rows": 9000, "given": {"city": cities}, "first_row": 0}
    ranks(2, "launch_scenario.generated", out=str(shared), **arguments)
    assert list(pd.read_csv(shared)["city"]) == cities * 3000
    assert ranks(2, "launch_scenario.generated", out=str(shared), run=str(pipeline.run), num_rows=0) == [0, 0]


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """The folder of a model of histories that has learnt nothing."""
    random = np.random.default_rng(0)
    rows = [(f"c{c}", t, "ab"[(c + t) % 2]) for c in range(60) for t in range(int(random.integers(1, 9)))]
    tiny = {"model__hidden_size": 16, "trainer__max_steps": 2, "data__max_rows": 4, "data__context_rows": 1}
    synthesizer = Synthesizer(**tiny).fit(
        pd.DataFrame(rows, columns=["who", "t", "state"]), group_by=["who"], order_by=["t"]
    )
    folder = tmp_path_factory.mktemp("histories") / "model"
    synthesizer.save(folder)
    return folder


def test_histories_of_three_ranks_are_those_of_one(ranks, histories, tmp_path):
    alone, shared = tmp_path / "alone.csv", tmp_path / "shared.csv"
    arguments = {"run": str(histories), "num_documents": 500, "seed": 2}
    rows = ranks(1, "launch_scenario.generated", out=str(alone), **arguments)
    assert ranks(3, "launch_scenario.generated", out=str(shared), **arguments) == rows * 3
    assert shared.read_bytes() == alone.read_bytes()


def test_a_rank_that_cannot_make_its_share_is_named_and_nothing_is_written(ranks, pipeline, tmp_path):
    out = tmp_path / "out.csv"
    told = ranks(2, "launch_scenario.generated_where_a_rank_fails", run=str(pipeline.run), out=str(out))
    assert told == ["rank 1: out of luck (False)", "out of luck (False)"]


def torchrun(count, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "nemo_tabular.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def test_a_run_of_two_tensor_parallel_ranks_generates_on_one_process(pipeline, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out.csv"
    layout = ["model.tensor_model_parallel_size=2", "model.sequence_parallel=true"]
    trained = torchrun(2, "train", pipeline.recipe, f"data.store={pipeline.store}", f"run.dir={run}", *layout)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count(" steps, validation") == 1, "rank 0 alone speaks"
    found, wanted = (json.loads((r / "model" / "model.json").read_text()) for r in (run, pipeline.run))
    assert found["info"]["best_nll"] == pytest.approx(wanted["info"]["best_nll"], rel=1e-6)
    assert Synthesizer.load(run).write(out, 100, seed=1) == 100
    real = pd.read_csv(pipeline.table, dtype=str)
    assert set(pd.read_csv(out, dtype=str)["city"]) <= set(real["city"])
    tensors, alone = (Synthesizer.load(folder).model.tensors for folder in (run, pipeline.run))
    assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in alone.items()}
    assert all(np.allclose(tensors[name], alone[name], atol=1e-4) for name in alone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.tensor_model_parallel_size=3"], "is not a multiple of tensor_model_parallel_size 3"),
        (["model.tensor_model_parallel_size=2"], "= 2 ranks do not divide the 1 started"),
        (["model.pipeline_model_parallel_size=2"], "num_layers 1 is not a multiple of"),
        (
            ["model.num_layers=2", "model.virtual_pipeline_model_parallel_size=2"],
            "virtual_pipeline_model_parallel_size needs pipeline_model_parallel_size of at least 2",
        ),
        (
            ["model.sequence_parallel=true"],
            "sequence_parallel needs tensor_model_parallel_size of at least 2",
        ),
        (["optim.overlap_param_gather=true"], "needs use_distributed_optimizer and overlap_grad_reduce"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_at_start(pipeline, tmp_path, told, settings, message):
    store = f"data.store={pipeline.store}"
    assert message in told("train", pipeline.recipe, store, f"run.dir={tmp_path / 'run'}", *settings)
