"""Learning rates, lengths and what follows from the size of a table."""

import math

import pytest

from nemo_tabular.config import Config, load_config
from nemo_tabular.errors import ConfigError
from nemo_tabular.train.schedule import learning_rate, num_steps, parse_time, resolve


@pytest.mark.parametrize(
    ("rows", "batch", "lr", "final"),
    [
        (1, 16, 0.002475, True),
        (700, 16, 0.002475, True),
        (4_096, 64, 0.00495, True),
        (30_000, 128, 0.007, False),
        (10**9, 128, 0.007, False),
    ],
)
def test_what_follows_from_the_number_of_rows(rows, batch, lr, final):
    config = resolve(Config(), rows, histories=False)
    assert (config.data.global_batch_size, config.optim.lr, config.trainer.final_fit) == (batch, lr, final)


def test_what_is_set_by_hand_stays():
    by_hand = ["data.global_batch_size=7", "optim.lr=0.5", "trainer.final_fit=false"]
    given = load_config(overrides=[*by_hand, "trainer.max_epochs=3", "model.order=schema"])
    assert resolve(given, 100, histories=False) == given


@pytest.mark.parametrize(
    ("rows", "columns", "epochs"),
    [
        *[(1, 15, 45), (8_192, 15, 28), (32_768, 15, 14), (131_072, 15, 7), (10**9, 15, 2)],
        *[(8_192, 2, 10.2), (131_072, 30, 14), (131_072, 60, 28)],
    ],
)
def test_a_cgm_passes_more_often_over_few_rows_and_many_columns(rows, columns, epochs):
    cgm = load_config(overrides=["model.kind=cgm"])
    assert resolve(cgm, rows, histories=False, columns=columns).trainer.max_epochs == epochs
    assert resolve(cgm, 10**6, histories=False).optim.lr == 0.0045


@pytest.mark.parametrize(("columns", "share"), [(1, 0.5), (15, 0.5), (24, 0.395), (60, 0.25), (1000, 0.25)])
def test_the_more_columns_the_fewer_rows_a_cgm_sees_in_one_order(columns, share):
    cgm = load_config(overrides=["model.kind=cgm"])
    assert resolve(cgm, 100, histories=False, columns=columns).model.fixed_share == share
    by_hand = load_config(overrides=["model.kind=cgm", "model.fixed_share=0.9"])
    assert resolve(by_hand, 100, histories=False, columns=columns).model.fixed_share == 0.9


@pytest.mark.parametrize(
    ("rows", "ids", "epochs"),
    [(1, 9, 8), (8_192, 9, 8), (32_768, 9, 5), (32_768, 1_000, 6.2), (10**6, 10**4, 3.6), (10**9, 10**4, 3)],
)
def test_a_gpt_passes_more_often_over_few_rows_and_many_ids(rows, ids, epochs):
    assert resolve(Config(), rows, histories=False, columns=100, ids=ids).trainer.max_epochs == epochs


def test_histories_have_no_final_fit_and_wider_models_smaller_steps():
    config = resolve(load_config(overrides=["model.hidden_size=256"]), 10**6, histories=True)
    assert (config.trainer.final_fit, config.optim.lr) == (False, 0.00175)


def test_batches_of_histories_are_few_documents_in_pieces_of_like_lengths():
    data = resolve(Config(), 10**6, histories=True).data
    assert (data.global_batch_size, data.micro_batch_size) == (16, 4)
    larger = load_config(overrides=["data.global_batch_size=256", "data.micro_batch_size=null"])
    assert resolve(larger, 10**6, histories=True).data.micro_batch_size == 32
    cut = load_config(overrides=["model.num_layers=2", "model.pipeline_model_parallel_size=2"])
    assert resolve(cut, 10**6, histories=True).data.micro_batch_size is None  # a pipeline's own choice
    assert resolve(Config(), 10**6, histories=False).data.micro_batch_size is None


def test_rate_rises_then_falls_and_is_never_zero():
    optim = resolve(Config(), 10**6, histories=False).optim
    rates = [learning_rate(optim, step, 200) for step in range(200)]
    top = rates.index(max(rates))
    assert 8 <= top <= 12
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 2e-5
    assert max(rates) == pytest.approx(7e-3, rel=5e-3)


def test_lengths_and_times():
    assert num_steps(resolve(Config(), 1000, False).trainer, 1000, 100) == 80
    assert num_steps(load_config(overrides=["trainer.max_steps=3"]).trainer, 1000, 100) == 3
    assert parse_time(None) == math.inf
    assert parse_time("01:02:03:04") == 93784
    with pytest.raises(ConfigError, match="DD:HH:MM:SS"):
        parse_time("2h")
