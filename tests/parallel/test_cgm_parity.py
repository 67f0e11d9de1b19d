"""The CGM trains under every layout as in one process: ten steps, loss and gradient norm of each."""

import pytest

TP, PP = (f"model.{name}_parallel_size" for name in ("tensor_model", "pipeline_model"))
SP, VPP = "model.sequence_parallel=true", "model.virtual_pipeline_model_parallel_size=2"
LAYOUTS = {
    "tp2": (2, [f"{TP}=2"]),
    "tp2-sp": (2, [f"{TP}=2", SP]),
    "pp2": (2, [f"{PP}=2", "data.micro_batch_size=2"]),
    "pp2-interleaved": (2, [f"{PP}=2", VPP, "data.micro_batch_size=2"]),
    "dp2": (2, []),
    "dp2-sharded": (2, ["optim.use_distributed_optimizer=true"]),
    "tp2dp2": (4, [f"{TP}=2"]),
    "tp2pp2-sp": (4, [f"{TP}=2", f"{PP}=2", SP]),
}
QUERIES = ("additive", "cross_attention")


@pytest.fixture(scope="session")
def alone(ranks):
    """The same ten steps in one process of the same server."""
    return {query: ranks(1, "cgm_scenario.ten_steps", settings=[], query=query)[0] for query in QUERIES}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_trains_as_one_process(ranks, alone, name, query):
    count, settings = LAYOUTS[name]
    every = ranks(count, "cgm_scenario.ten_steps", settings=settings, query=query)
    wanted, first = alone[query], every[0]
    for other in every[1:]:
        assert (other["losses"], other["norms"]) == (first["losses"], first["norms"]), "ranks disagree"
    assert first["losses"] == pytest.approx(wanted["losses"], abs=1e-5, rel=1e-5)
    assert first["norms"] == pytest.approx(wanted["norms"], rel=1e-4)
    assert first["by_slot"] == pytest.approx(wanted["by_slot"], rel=1e-4)
    assert first["counts"] == pytest.approx(wanted["counts"], rel=1e-3, abs=1e-5)
    assert first["sums"] == pytest.approx(wanted["sums"], rel=1e-4)
