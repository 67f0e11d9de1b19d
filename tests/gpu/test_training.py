"""Training on the card against the CPU: NCCL of one rank, bf16, flash attention, resume, memory."""

import csv
import gc
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nemo_tabular.config import load_config, make_config
from nemo_tabular.engine import launch
from nemo_tabular.engine.attention import causal_attention
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.gpt import TabularGPT
from nemo_tabular.models.saved import SavedModel
from nemo_tabular.plan import Cluster, assumed, estimate
from nemo_tabular.train.run import train

pytestmark = pytest.mark.gpu

STEPS = 20
RECIPE = [
    "model.num_layers=2",
    "model.hidden_size=64",
    "data.global_batch_size=64",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=10",
    "trainer.log_every_n_steps=1",
    "trainer.final_fit=false",
    "trainer.num_threads=1",
]
# nats a row, of some 20: what rounding to 24 and to 8 bits may change in the first steps of training
FP32_BOUND, BF16_BOUND = 2e-3, 0.15


def losses(run: Path) -> list[float]:
    with open(run / "metrics.csv", newline="") as file:
        return [float(line["value"]) for line in csv.DictReader(file) if line["metric"] == "train_nll"]


def trained(store: Path, run: Path, *overrides: str) -> list[float]:
    assert train(load_config(None, [*RECIPE, f"data.store={store}", f"run.dir={run}", *overrides])).finished
    return losses(run)


@pytest.fixture
def reference(pipeline, tmp_path, without_card) -> list[float]:
    """Losses of the same run on the CPU in fp32."""
    empty, run = tmp_path / "empty.yaml", tmp_path / "cpu"
    empty.write_text("{}\n")
    overrides = [*RECIPE, f"data.store={pipeline.store}", f"run.dir={run}"]
    without_card("-m", "nemo_tabular.cli", "train", empty, *overrides)
    found = losses(run)
    assert len(found) == STEPS
    return found


@pytest.mark.parametrize(("precision", "bound"), [("32", FP32_BOUND), ("bf16-mixed", BF16_BOUND)])
def test_losses_are_those_of_the_cpu(pipeline, tmp_path, card, reference, precision, bound):
    found = trained(pipeline.store, tmp_path / "card", f"trainer.precision={precision}")
    assert found == pytest.approx(reference, abs=bound)
    assert found[-1] < found[0] - 0.5
    assert dist.get_backend() == ("nccl" if card.type == "cuda" else "gloo")
    assert dist.get_world_size() == 1


def test_a_run_that_was_stopped_ends_where_the_uninterrupted_one_ends(pipeline, tmp_path, card):
    """To rounding only: sums on a card have no fixed order."""
    whole = trained(pipeline.store, tmp_path / "whole", "trainer.precision=bf16-mixed")
    settings = [*RECIPE, f"data.store={pipeline.store}", f"run.dir={tmp_path / 'parts'}"]
    settings.append("trainer.precision=bf16-mixed")
    assert not train(load_config(None, [*settings, "trainer.max_time=00:00:00:00"])).finished
    assert train(load_config(None, settings)).finished
    assert losses(tmp_path / "parts") == pytest.approx(whole, abs=BF16_BOUND)


def test_a_model_trained_on_the_card_is_loaded_and_used_without_one(pipeline, tmp_path, card, without_card):
    run, rows = tmp_path / "run", tmp_path / "rows.csv"
    trained(pipeline.store, run, "trainer.precision=bf16-mixed")
    assert all(tensor.device.type == "cpu" for tensor in SavedModel.load(run / "model").tensors.values())
    out = without_card("-m", "nemo_tabular.cli", "generate", run, "--rows", 500, "--seed", 1, "-o", rows)
    assert out == f"{rows}: 500 rows\n"


@pytest.mark.parametrize(("heads", "size"), [(12, 64), (16, 128)])
@pytest.mark.parametrize("length", [33, 2049])
def test_flash_attention_is_what_runs_and_is_right(card, heads, size, length):
    shape, dtype = (length, 2, heads, 3 * size), torch.bfloat16
    mixed = torch.randn(shape, device=card, dtype=dtype, requires_grad=True)  # as Megatron hands it over
    q, k, v = (x.permute(1, 2, 0, 3) for x in mixed.split(size, 3))
    with torch.profiler.profile() as profile:
        found = causal_attention(q, k, v, size**-0.5)
        found.float().square().sum().backward()
    kernels = {event.key for event in profile.key_averages()}
    assert any("flash_attention" in key or "cudnn_attention" in key for key in kernels), sorted(kernels)
    q, k, v = (x.detach().float() for x in (q, k, v))
    scores = q @ k.transpose(2, 3) * size**-0.5
    scores.masked_fill_(torch.ones(length, length, device=card).triu(1).bool(), -torch.inf)
    wanted = scores.softmax(3) @ v
    assert (found - wanted).abs().max() < 0.05  # of numbers up to 5, in 8 bits
    assert mixed.grad is not None and bool(torch.isfinite(mixed.grad).all())


def test_a_step_takes_the_memory_that_was_planned(real_card):
    """Weights, gradients, optimizer and activations of a model large enough for the rest not to matter."""
    shape = {"num_layers": 8, "hidden_size": 1024, "num_attention_heads": 16}
    config = make_config(
        {
            "model": shape,
            "data": {"global_batch_size": 1024, "micro_batch_size": 512},
            "trainer": {"precision": "bf16-mixed"},
        }
    )
    work = assumed(config, 32, 8192)
    planned = estimate(config, work, Cluster(1)).memory
    gc.collect()  # of earlier tests
    torch.cuda.empty_cache()
    groups = launch.start(ParallelLayout(), seed=1)
    before = torch.cuda.memory_allocated()
    model = TabularGPT(config.model, "bf16-mixed", work.sizes, groups).to(real_card)
    step = TrainStep(model, config.optim, groups)
    batches = [torch.randint(0, 256, (32, 512), device=real_card) for _ in range(2)]
    step(batches, 1e-4)
    torch.cuda.reset_peak_memory_stats()
    step(batches, 1e-4)
    taken = torch.cuda.max_memory_allocated() - before
    assert taken == pytest.approx(planned.total, rel=0.2)
