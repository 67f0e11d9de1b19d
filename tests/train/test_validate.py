"""A store of histories enters; a validation reads as much of it as it may."""

import numpy as np
import pandas as pd
import pytest
import torch

from nemo_tabular.batches import DocumentBatches
from nemo_tabular.models.order import RowPlan
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema
from nemo_tabular.store import prepare
from nemo_tabular.train.validate import Validation, worse_beyond_chance

HISTORIES, ROWS = 100, 50


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    table = pd.DataFrame({"who": np.repeat(np.arange(HISTORIES), ROWS), "kind": np.tile(["a", "b"], 2500)})
    schema = infer_schema(open_table(table), group_by=["who"])
    return prepare(table, tmp_path_factory.mktemp("histories") / "store", schema=schema, splits=(1.0,))


@pytest.mark.parametrize(("limit", "documents"), [(1, 64), (3200, 64), (3500, 70), (10**6, 100)])
def test_histories_are_judged_whole_by_as_many_as_hold_the_rows(store, limit, documents):
    tokenizer = store.tokenizer
    plan = RowPlan.of(tokenizer, tokenizer.columns)
    some = store.documents("train")
    batches = DocumentBatches(some, tokenizer, 0, 8, max_rows=17, stride=16, slot_order=plan.slots)
    judged = Validation(batches, tokenizer, plan, limit, torch.device("cpu"))
    assert judged.documents == documents
    assert len(judged.items) == judged.documents * -(-ROWS // 16)


def test_a_difference_counts_beyond_a_standard_error():
    before = np.linspace(1, 2, 16)
    assert not worse_beyond_chance(before, before)
    assert not worse_beyond_chance(before - 1e-9, before)
    assert worse_beyond_chance(before + 1e-9, before)
    noise = np.random.default_rng(0).normal(size=16)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    assert not worse_beyond_chance(before + noise + 0.2, before)
    assert worse_beyond_chance(before + noise + 0.3, before)
