"""Which of NVIDIA's fused kernels Megatron may use: a machine enters, TransformerEngine and apex leave as its
own to use, or hidden from it. Decided here and nowhere else, before Megatron's first import.

| piece                        | CUDA, and TransformerEngine or apex imports | everywhere else |
|------------------------------|---------------------------------------------|-----------------|
| Adam, its fp32 copies        | theirs: Megatron takes what it can import    | torch's         |
| linear layers, norm          | ours (linear.py, norm.py)                   | ours            |
| attention                    | ours (attention.py): torch's flash kernel    | ours            |

Our layers stay where theirs are present: names and shapes of weights, and so checkpoints, are then the same
on every machine. `NEMO_TABULAR_PLAIN=1` hides both on CUDA as well, for an image whose builds do not fit.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import torch

log = logging.getLogger("nemo_tabular")

# What Megatron looks for, by the package that it belongs to: apex installs its extensions beside itself.
PACKAGES = {
    "transformer_engine": ("transformer_engine", "transformer_engine.pytorch"),
    "apex": ("apex", "amp_C", "fused_layer_norm_cuda", "fused_weight_gradient_mlp_cuda"),
}


def choose(
    cuda: bool | None = None, importer: Callable[[str], ModuleType] = importlib.import_module
) -> Sequence[str]:
    """Hide what must not be used, and give the names of the packages that Megatron may use. Idempotent.

    On a CPU both are hidden, be they installed or not: their kernels need a card. On CUDA one that cannot be
    imported, for whatever reason, is hidden and told.
    """
    cuda = torch.cuda.is_available() if cuda is None else cuda
    allowed = cuda and os.environ.get("NEMO_TABULAR_PLAIN", "") in ("", "0")
    usable = [name for name in PACKAGES if allowed and _works(name, importer)]
    for name in PACKAGES.keys() - set(usable):
        for module in PACKAGES[name]:
            sys.modules[module] = None  # type: ignore[assignment]  # an import of it is an ImportError
    return usable


def _works(name: str, importer: Callable[[str], ModuleType]) -> bool:
    probe = PACKAGES[name][1] if name == "transformer_engine" else name
    try:
        importer(probe)
    except ModuleNotFoundError:
        return False
    except Exception as error:  # built for another torch or CUDA: OSError, RuntimeError, and what not
        log.warning("%s is installed but cannot be imported, so torch's kernels are used: %s", name, error)
        return False
    return True
