"""A recipe and dotted overrides come in; a trained run is left in `run.dir`. As `nemo-tabular train` does.

python scripts/train_gpt.py conf/gpt_adult.yaml data.store=data/adult run.dir=runs/adult
"""

import sys

from nemo_tabular.config import load_config
from nemo_tabular.train.run import train

if __name__ == "__main__":
    recipe, *overrides = sys.argv[1:]
    result = train(load_config(recipe, overrides))
    print(f"{result.steps:,} steps, validation {result.best_nll:.4f} nats a row")
