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
    known = {}

    def steps(**which):
        key = tuple(which.items())
        if key not in known:
            known[key] = ranks(1, "cgm_scenario.ten_steps", settings=[], **which)[0]
        return known[key]

    return steps


def compare(ranks, wanted, name, **which):
    count, settings = LAYOUTS[name]
    every = ranks(count, "cgm_scenario.ten_steps", settings=settings, **which)
    first = every[0]
    for other in every[1:]:
        assert (other["losses"], other["norms"]) == (first["losses"], first["norms"]), "ranks disagree"
    assert first["losses"] == pytest.approx(wanted["losses"], abs=1e-5, rel=1e-5)
    assert first["norms"] == pytest.approx(wanted["norms"], rel=1e-4)
    assert first["by_slot"] == pytest.approx(wanted["by_slot"], rel=1e-4)
    assert first["counts"] == pytest.approx(wanted["counts"], rel=1e-3, abs=1e-5)
    assert first["sums"] == pytest.approx(wanted["sums"], rel=1e-4)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_layout_trains_as_one_process(ranks, alone, name, query):
    compare(ranks, alone(query=query), name, query=query)


@pytest.mark.parametrize("name", ("tp2", "tp2-sp", "pp2", "pp2-interleaved", "dp2-sharded-overlap", "tp2pp2"))
def test_a_dense_column_trains_in_every_layout(ranks, alone, name):
    """Encoders on the first stage, decoders on the last, the same on all tensor-parallel ranks."""
    wanted = alone(query="additive", pictures=True)
    assert wanted["losses"] != alone(query="additive")["losses"]
    compare(ranks, wanted, name, query="additive", pictures=True)
