"""The verb `plan`: what it says of a recipe, what it refuses, and the layouts that the recipes promise."""

import json
import re
from pathlib import Path

import pytest

from nemo_tabular.cli import main
from nemo_tabular.config import load_config
from nemo_tabular.errors import ConfigError
from nemo_tabular.models.curves import WAVES
from nemo_tabular.plan import Cluster, assumed, estimate, fitting, of_store
from nemo_tabular.plan.memory import model_parameters
from nemo_tabular.plan.search import powers_of_two
from nemo_tabular.plan.speed import sequence_flops

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(CONF.glob("gpt_*.yaml"))  # what is planned is GPTs
SIZES = {"125m": 125e6, "1.3b": 1.3e9, "5b": 5e9, "20b": 20e9, "175b": 175e9}


def promised(recipe: Path) -> list[tuple[int, list[str] | None]]:
    """The recipe's own table: numbers of GPUs, and the overrides for them; None where they are too few."""
    found: list[tuple[int, list[str] | None]] = []
    for first, last, text in re.findall(r"(?m)^# {3,}(\d+)(?:-(\d+))?  (\S.*)$", recipe.read_text()):
        gpus = [n for n in powers_of_two(1 << 12) if int(first) <= n <= int(last or first)]
        overrides = None if text == "too few" else [] if text == "nothing" else text.split()
        found += [(n, overrides) for n in gpus]
    return found


def planned(path: Path | None, gpus: int, *overrides: str, **cluster: float):
    config = load_config(path, overrides)
    return estimate(config, assumed(config, 32, 8192), Cluster(gpus, **cluster))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_accepted_as_it_stands(recipe, capsys):
    assert main(["plan", str(recipe)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{recipe} on ") and ": fits, " in text


@pytest.mark.parametrize("size", SIZES)
def test_the_recipes_keep_what_their_tables_promise(size):
    recipe = CONF / f"gpt_{size}.yaml"
    table = promised(recipe)
    assert [gpus for gpus, _ in table] == powers_of_two(512)
    for gpus, overrides in table:
        if overrides is not None:
            assert planned(recipe, gpus, *overrides).fits, gpus
        else:
            smaller = fitting(load_config(recipe), made_work(recipe), Cluster(gpus))
            assert smaller[-1] == (gpus, None), f"{gpus} GPUs would do: {smaller[-1]}"


@pytest.mark.parametrize("size", SIZES)
def test_the_recipes_have_the_size_of_their_name_with_gpt3s_vocabulary(size):
    model = load_config(CONF / f"gpt_{size}.yaml").model
    assert model_parameters(model, assumed(load_config(), 32, 50_257)) == pytest.approx(SIZES[size], rel=0.05)


def made_work(recipe: Path):
    return assumed(load_config(recipe), 32, 8192)


def test_flops_are_six_a_parameter_and_token_and_more_for_attention():
    config = load_config(CONF / "gpt_1.3b.yaml")
    work = assumed(config, 32, 8192)
    blocks = 12 * 24 * 2048**2
    assert sequence_flops(config.model, work) == pytest.approx(6 * blocks * 32, rel=0.01)
    long = assumed(config, 32, 8192, histories=True)
    attention = 6 * 24 * 2048 * long.positions**2
    assert sequence_flops(config.model, long) == pytest.approx(6 * blocks * 2049 + attention, rel=0.01)


def test_time_follows_from_flops_and_rate():
    made = planned(CONF / "gpt_1.3b.yaml", 8, "trainer.max_steps=1000", mfu=0.5, teraflops=1000.0)
    assert made.time.step_seconds == pytest.approx(made.step_flops / (8 * 0.5e15))
    assert made.time.days == pytest.approx(1000 * made.time.step_seconds / 86_400)
    assert made.time.tokens_per_second == pytest.approx(32_768 * 32 / made.time.step_seconds)


def test_the_distributed_optimizer_recomputation_and_smaller_batches_save_memory():
    full = ["recompute_granularity=full", "recompute_method=uniform", "recompute_num_layers=1"]
    base = planned(CONF / "gpt_5b.yaml", 8)
    alone = planned(CONF / "gpt_5b.yaml", 8, "optim.use_distributed_optimizer=false").memory
    again = planned(CONF / "gpt_5b.yaml", 8, *[f"model.{setting}" for setting in full])
    small = planned(CONF / "gpt_5b.yaml", 8, "data.micro_batch_size=128")
    assert alone.optimizer == pytest.approx(4 * base.memory.optimizer, rel=0.001)
    assert again.memory.activations < 0.25 * base.memory.activations
    assert small.memory.activations < 0.55 * base.memory.activations


def test_what_a_store_holds_is_taken_from_it(pipeline, capsys):
    arguments = ["plan", str(pipeline.recipe), f"data.store={pipeline.store}"]
    assert main([*arguments, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    weights = (pipeline.run / "model" / "weights.safetensors").read_bytes()
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    count = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    assert made["parameters"] == count
    work = of_store(load_config(overrides=arguments[2:]))
    assert made["data"]["slots"] == work.slots
    assert work.waves and not work.waves % WAVES
    assert main(arguments) == 0
    assert "training rows" in capsys.readouterr().out


def test_assumptions_are_told_and_can_be_changed(capsys):
    arguments = ["plan", str(CONF / "gpt_125m.yaml")]
    options = ["--slots", "20", "--vocab-size", "700", "--rows", "32768000", "--histories"]
    batches = ["data.global_batch_size=256", "data.micro_batch_size=8"]
    assert main([*arguments, batches[0], *options, batches[1]]) == 0
    text = capsys.readouterr().out
    assert "assumed, for want of a store: 20 tokens a row, 700 ids, histories in windows of 64 rows" in text
    assert "2,000, from trainer.max_epochs 1" in text  # 512,000 windows


def test_impossible_layouts_are_refused_with_the_reason(told):
    recipe = CONF / "gpt_20b.yaml"
    assert "do not divide the 12 started" in told("plan", recipe, "--gpus", 12)
    assert "not a multiple of tensor_model_parallel_size 5" in told(
        "plan", recipe, "model.tensor_model_parallel_size=5"
    )
    assert "no multiple of the 3 data-parallel" in told("plan", recipe, "--gpus", 24)
    assert "raise model.tensor_model_parallel_size" in told("plan", recipe, "--gpu-memory", 40)
    assert "a share of the peak" in told("plan", recipe, "--mfu", 40)
    assert "must be positive" in told("plan", recipe, "--gpus", 0)
    assert "--slots" in told("plan", recipe, "--slots", 0)


def test_the_layouts_that_are_listed_fit_and_can_be_typed(capsys):
    recipe = CONF / "gpt_20b.yaml"
    assert main(["plan", str(recipe), "--gpus", "64", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["fitting"]
    assert [entry["gpus"] for entry in listed] == powers_of_two(64)
    assert not listed[0]["fits"] and listed[-1]["fits"]
    for entry in listed:
        if entry["fits"]:
            again = planned(recipe, entry["gpus"], *entry["overrides"])
            assert again.memory.total == entry["memory"]["total"] <= entry["room"]


def test_pipelines_wait_less_when_interleaved():
    plain = planned(CONF / "gpt_175b.yaml", 512)
    pieces = planned(CONF / "gpt_175b.yaml", 512, "model.virtual_pipeline_model_parallel_size=3")
    assert plain.idle == pytest.approx(15 / (15 + 384))
    assert pieces.idle == pytest.approx(15 / (15 + 3 * 384))
    assert pieces.memory.activations > plain.memory.activations


def test_a_plan_needs_a_positive_table():
    with pytest.raises(ConfigError, match="--slots"):
        assumed(load_config(), 0, 100)
    with pytest.raises(ConfigError, match="--vocab-size"):
        assumed(load_config(), 10, 5)
