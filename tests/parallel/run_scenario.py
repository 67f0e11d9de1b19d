"""A store and settings enter; a whole run leaves: validation, early stopping, final fit, calibration."""

from typing import Any

from nemo_tabular.config import load_config
from nemo_tabular.engine.ranks import place
from nemo_tabular.train.run import train

RECIPE = [
    "model.num_layers=4",
    "model.hidden_size=16",
    "model.num_attention_heads=4",
    "data.global_batch_size=16",
    "data.max_rows=4",
    "data.context_rows=1",
    "trainer.max_steps=12",
    "trainer.val_check_interval=4",
    "trainer.num_threads=1",
]


def trained(store: str, folder: str, settings: list[str]) -> dict[str, Any]:
    """What this rank knows of the finished run."""
    config = load_config(overrides=[*RECIPE, *settings, f"data.store={store}", f"run.dir={folder}"])
    result = train(config)
    assert (result.model is not None) == (place().rank == 0), "rank 0 has the model, and it alone"
    return {"finished": result.finished, "steps": result.steps, "best_nll": result.best_nll}
