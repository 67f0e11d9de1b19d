"""Recipes and overrides: what is accepted, and what a wrong one is told."""

import pytest

from nemo_tabular.config import Config, load_config
from nemo_tabular.errors import ConfigError


def test_overrides_win_over_the_file_and_the_rest_are_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model:\n  num_layers: 3\ntrainer:\n  max_steps: 10\n")
    config = load_config(path, ["trainer.max_steps=500", "model.order=[a,b]"])
    assert (config.model.num_layers, config.trainer.max_steps) == (3, 500)
    assert config.model.order == ("a", "b")
    assert load_config(overrides=["trainer.precision=32"]) == Config()
    assert config.optim == Config().optim


def test_what_is_saved_reads_back_equal(tmp_path):
    config = load_config(overrides=["optim.lr=0.003", "model.condition_on=[sex]", "run.loggers=[wandb]"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_layer=4", r"unknown setting 'model\.num_layer' \(did you mean 'num_layers'\?\)"),
        ("modle.num_layers=4", r"unknown setting 'modle' \(did you mean 'model'\?\)"),
        ("trainer.max_steps=many", r"trainer\.max_steps: .*integer.*'many'"),
        ("model.hidden_size=65", "hidden_size 65 is not a multiple of num_attention_heads 4"),
        ("model.activation=swish", r"model\.activation: .*'squared-relu' or 'gelu'.*'swish'"),
        ("optim.lr=-1", r"optim\.lr: .*greater than 0.*-1"),
        ("model.sequence_parallel=true", "needs tensor_model_parallel_size"),
        ("model.recompute_granularity=full", "recompute_method and recompute_num_layers go together"),
        ("steps", "write it as section.name=value"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [1, 2\n")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config(broken)
    listing = tmp_path / "list.yaml"
    listing.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match="found a list"):
        load_config(listing)
