"""Compilers that work, fail or are missing come in; a library, or None with a logged reason, must leave.
Also: the compiled decoder and the torch one agree, and two processes may compile at the same time."""

import logging
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from decoder_models import census_weights, random_weights

from nemo_tabular.generate import kernel
from nemo_tabular.generate.compiled import Lanes
from nemo_tabular.generate.trie import RowDecoder


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("NEMO_TABULAR_CACHE", str(tmp_path / "cache"))
    kernel.library.cache_clear()
    yield tmp_path
    kernel.library.cache_clear()


def test_compiled_once_and_found_again(fresh, monkeypatch):
    assert kernel.library() is not None
    made = list((fresh / "cache").iterdir())
    assert len(made) == 1
    kernel.library.cache_clear()
    monkeypatch.setattr(kernel, "_run", lambda *_: pytest.fail("compiled again"))
    assert kernel.library() is not None


def test_switched_off(fresh, monkeypatch, caplog):
    monkeypatch.setenv("NEMO_TABULAR_COMPILE", "0")
    with caplog.at_level(logging.INFO):
        assert kernel.library() is None
    assert "NEMO_TABULAR_COMPILE" in caplog.text
    assert RowDecoder(random_weights([2, 3])).backend == "torch"


@pytest.mark.parametrize("script", ["echo 'decode_rows.c: no such instruction' >&2; exit 1", "kill -9 $$"])
def test_a_failing_compiler_is_named_and_torch_decodes(fresh, monkeypatch, caplog, script):
    broken = fresh / "cc"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    decoder = RowDecoder(random_weights([2, 3]))
    assert decoder.backend == "torch"
    assert decoder.sample(5, 1).shape == (5, 2)
    assert "decoding with torch" in caplog.text
    assert not list((fresh / "cache").iterdir()), "no half library stays behind"


def test_no_compiler_at_all(fresh, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CC", raising=False)
    assert kernel.library() is None
    assert "no C compiler" in caplog.text


def test_a_folder_that_others_can_write_is_refused(fresh, caplog):
    (fresh / "cache").mkdir()
    (fresh / "cache").chmod(0o777)
    assert kernel.library() is None
    assert "can be written by others" in caplog.text


def test_two_processes_may_compile_at_once(fresh):
    code = "from nemo_tabular.generate.kernel import library; assert library()"
    both = [subprocess.Popen([sys.executable, "-c", code], env=os.environ) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list((fresh / "cache").iterdir())) == 1


def test_backends_agree_but_for_the_last_bits():
    weights = census_weights()
    compiled = RowDecoder(weights, backend="compiled").sample(4000, 3)
    with_torch = RowDecoder(weights, backend="torch").sample(4000, 3)
    assert (compiled != with_torch).any(1).mean() < 0.002


@pytest.mark.skipif(platform.machine() != "x86_64", reason="vector widths of x86 CPUs")
@pytest.mark.parametrize(("tuning", "lanes"), [((), 4), (("-mavx2", "-mfma"), 8), (("-march=native",), None)])
def test_every_vector_width_makes_the_same_rows_but_for_the_last_bits(fresh, monkeypatch, tuning, lanes):
    monkeypatch.setattr(kernel, "TUNING", (tuning,))
    weights = random_weights([7, 90, 3, 40], hidden=48, heads=3, act="gelu")
    decoder = RowDecoder(weights, backend="compiled")
    assert lanes in (None, kernel.library().lanes())
    rows = decoder.sample(3000, 3)
    assert (rows != RowDecoder(weights, backend="torch").sample(3000, 3)).any(1).mean() < 0.002
    alone = RowDecoder(weights, backend="compiled", share=False).sample(3000, 3)
    assert (rows == alone).all()


def test_smaller_blocks_make_the_same_rows(fresh, monkeypatch):
    weights = census_weights()
    rows = RowDecoder(weights, backend="compiled").sample(5000, 3)
    monkeypatch.setattr(kernel, "FLAGS", (*kernel.FLAGS, "-DCACHE_FLOATS=70000"))  # blocks of 16
    kernel.library.cache_clear()
    assert (RowDecoder(weights, backend="compiled").sample(5000, 3) == rows).all()


def test_settings_agree_between_backends():
    weights = random_weights([40, 7, 300], spread=2.0)
    for settings in ({"top_k": 5}, {"top_p": 0.7}, {"top_k": 20, "top_p": 0.9, "temperature": 1.7}):
        compiled = RowDecoder(weights, backend="compiled").sample(3000, 3, **settings)
        with_torch = RowDecoder(weights, backend="torch").sample(3000, 3, **settings)
        assert (compiled != with_torch).any(1).mean() < 0.003, settings


def test_without_the_table_of_the_first_layer_the_same_rows(monkeypatch):
    weights = census_weights()
    with_table = RowDecoder(weights, backend="compiled").sample(3000, 3)
    monkeypatch.setattr("nemo_tabular.generate.compiled.TABLE_FLOATS", 0)
    without = RowDecoder(weights, backend="compiled").sample(3000, 3)
    assert (with_table != without).any(1).mean() < 0.002  # the table is made by torch, with other last bits


def test_threads_make_the_same_rows():
    weights = census_weights(layers=1)
    one = RowDecoder(weights, backend="compiled").sample(20_000, 3)
    assert (RowDecoder(weights, backend="compiled", threads=3).sample(20_000, 3) == one).all()


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(("heads", "dim"), [(1, 20), (3, 10), (4, 16), (16, 8), (20, 2)])
def test_lanes_hold_every_element_once(lanes, heads, dim):
    plan = Lanes(lanes, heads, dim)
    spread = plan.spread(torch.arange(1, heads * dim + 1)).numpy()
    assert len(spread) == plan.width
    assert np.array_equal(np.sort(spread[spread > 0]), np.arange(1, heads * dim + 1))
    # all elements of a head stand in lanes of the same number, modulo the heads abreast
    lane = np.flatnonzero(spread) % plan.lanes % plan.abreast
    head = (spread[spread > 0] - 1) // dim
    assert (lane == head % plan.abreast).all()
