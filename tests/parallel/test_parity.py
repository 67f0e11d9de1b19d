"""Every layout that fits four ranks trains as one process does: ten steps, loss and gradient norm of each."""

import pytest
from layouts import LAYOUTS

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
    assert first["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
    assert first["norms"] == pytest.approx(wanted["norms"], rel=1e-4)
    assert first["by_slot"] == pytest.approx(wanted["by_slot"], rel=1e-4)
    assert first["counts"] == pytest.approx(wanted["counts"], rel=1e-3, abs=1e-5)
    assert first["shapes"] == wanted["shapes"], "the whole model has other tensors"
    assert first["marks"] == pytest.approx(wanted["marks"], rel=1e-3, abs=1e-3)


BF16 = "trainer.precision=bf16-mixed"


@pytest.mark.parametrize(
    ("name", "documents"),
    [("tp2-sp", False), ("tp2cp2-sp", True), ("pp2dp2-interleaved-sharded-overlap", False)],
)
def test_bf16_trains_in_layouts_too(ranks, name, documents):
    """Equal at first up to bf16's rounding, which ten steps at this high a rate then carry apart."""
    count, settings = LAYOUTS[name]
    wanted = ranks(1, "parity_scenario.ten_steps", settings=[BF16], documents=documents)[0]
    found = ranks(count, "parity_scenario.ten_steps", settings=[BF16, *settings], documents=documents)[0]
    assert found["losses"][0] == pytest.approx(wanted["losses"][0], rel=1e-3)
    assert found["norms"][0] == pytest.approx(wanted["norms"][0], rel=1e-2)
    assert found["losses"] == pytest.approx(wanted["losses"], rel=3e-2)
