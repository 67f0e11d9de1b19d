"""The CGM trains under every layout as in one process: ten steps, loss and gradient norm of each."""

import pytest
from layouts import LAYOUTS

NAMES = (
    *("tp2", "tp2-sp", "pp2", "pp2-interleaved", "dp2", "dp2-sharded"),
    *("tp2dp2", "tp2pp2", "tp2pp2-sp-interleaved"),
)
QUERIES = ("additive", "cross_attention")


@pytest.fixture(scope="session")
def alone(ranks):
    """The same ten steps in one process of the same server."""
    return {query: ranks(1, "cgm_scenario.ten_steps", settings=[], query=query)[0] for query in QUERIES}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("name", NAMES)
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
