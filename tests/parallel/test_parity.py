"""Every layout that fits four ranks trains as one process does: ten steps, loss and gradient norm of each."""

import pytest

TP, PP, CP = (f"model.{name}_parallel_size" for name in ("tensor_model", "pipeline_model", "context"))
SP, VPP = "model.sequence_parallel=true", "model.virtual_pipeline_model_parallel_size=2"
SHARDED = "optim.use_distributed_optimizer=true"
OVERLAP = "optim.overlap_grad_reduce=true"
ALL_OVERLAP = [SHARDED, OVERLAP, "optim.overlap_param_gather=true"]

LAYOUTS = {
    "tp2": (2, [f"{TP}=2"]),
    "tp2-sp": (2, [f"{TP}=2", SP]),
    "tp4-sp": (4, [f"{TP}=4", SP]),
    "pp2": (2, [f"{PP}=2", "data.micro_batch_size=2"]),
    "pp2-interleaved": (2, [f"{PP}=2", VPP, "data.micro_batch_size=2"]),
    "pp4": (4, [f"{PP}=4", "data.micro_batch_size=2"]),
    "dp2": (2, []),
    "dp2-overlap": (2, [OVERLAP]),
    "dp2-sharded": (2, [SHARDED]),
    "dp2-sharded-overlap": (2, ALL_OVERLAP),
    "dp4": (4, ["data.micro_batch_size=1"]),
    "dp4-overlap": (4, [OVERLAP, "data.micro_batch_size=1"]),
    "dp4-sharded": (4, [SHARDED]),
    "dp4-sharded-overlap": (4, [*ALL_OVERLAP, "data.micro_batch_size=1"]),
    "cp2": (2, [f"{CP}=2"]),
    "cp4": (4, [f"{CP}=4"]),
    "tp2pp2": (4, [f"{TP}=2", f"{PP}=2"]),
    "tp2pp2-sp-interleaved": (4, [f"{TP}=2", f"{PP}=2", SP, VPP]),
    "tp2dp2": (4, [f"{TP}=2"]),
    "tp2dp2-sp-sharded-overlap": (4, [f"{TP}=2", SP, *ALL_OVERLAP]),
    "pp2dp2": (4, [f"{PP}=2"]),
    "pp2dp2-sharded": (4, [f"{PP}=2", SHARDED]),
    "pp2dp2-interleaved-sharded-overlap": (4, [f"{PP}=2", VPP, *ALL_OVERLAP]),
    "tp2cp2": (4, [f"{TP}=2", f"{CP}=2"]),
    "tp2cp2-sp": (4, [f"{TP}=2", f"{CP}=2", SP]),
    "pp2cp2": (4, [f"{PP}=2", f"{CP}=2"]),
    "cp2dp2-sharded": (4, [f"{CP}=2", SHARDED]),
}
WITH_DOCUMENTS = [
    "tp2-sp",
    "pp2-interleaved",
    "cp2",
    "dp4-sharded-overlap",
    "tp2pp2",
    "pp2dp2-sharded",
    "tp2cp2-sp",
]


@pytest.fixture(scope="session")
def alone(ranks):
    """The same ten steps in one process of the same server."""
    return {
        documents: ranks(1, "parity_scenario.ten_steps", settings=[], documents=documents)[0]
        for documents in (False, True)
    }


CASES = [(name, False) for name in LAYOUTS] + [(name, True) for name in WITH_DOCUMENTS]


@pytest.mark.parametrize(
    ("name", "documents"), CASES, ids=[f"{name}-{'documents' if d else 'rows'}" for name, d in CASES]
)
def test_a_layout_trains_as_one_process(ranks, alone, name, documents):
    count, settings = LAYOUTS[name]
    every = ranks(count, "parity_scenario.ten_steps", settings=settings, documents=documents)
    wanted, first = alone[documents], every[0]
    for other in every[1:]:
        assert (other["losses"], other["norms"], other["by_slot"]) == (
            first["losses"], first["norms"], first["by_slot"]
        ), "ranks disagree"  # fmt: skip
    assert first["losses"] == pytest.approx(wanted["losses"], abs=1e-5, rel=1e-5)
    assert first["norms"] == pytest.approx(wanted["norms"], rel=1e-4)
    assert first["by_slot"] == pytest.approx(wanted["by_slot"], rel=1e-4)
    assert first["counts"] == pytest.approx(wanted["counts"], rel=1e-3, abs=1e-5)
    assert first["shapes"] == wanted["shapes"], "the whole model has other tensors"
    assert first["sums"] == pytest.approx(wanted["sums"], rel=1e-4)


# every kind of split is written once and read once
SAVED = {"tp2-sp": ["pp4"], "pp2dp2-interleaved-sharded-overlap": ["tp4-sp"]}


@pytest.mark.parametrize("before", SAVED)
def test_weights_saved_under_one_layout_load_under_others(ranks, tmp_path, before):
    count, settings = LAYOUTS[before]
    wanted = ranks(count, "parity_scenario.saved", settings=settings, folder=str(tmp_path))[0]
    for count, settings in [(1, []), *(LAYOUTS[name] for name in SAVED[before])]:
        got = ranks(count, "parity_scenario.loaded", settings=settings, folder=str(tmp_path))[0]
        assert got == pytest.approx(wanted, rel=1e-5)
