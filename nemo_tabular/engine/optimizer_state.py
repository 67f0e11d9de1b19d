"""Megatron's optimizers around torch's AdamW enter as 0.16.1 has them: they cannot be saved before the first
step, or resume wrongly. Optimizers that resume bit for bit leave.

Megatron is used with TransformerEngine's or apex's Adam, which keep the number of steps in the parameter
groups. torch's keeps it as a tensor with each parameter, and without either package (on a GPU as well):

1. `DistributedOptimizer.state_dict()` asserts that there is exactly one step count and finds none before the
first step; 2. loading copies into every entry of the state, and finds no "step" among what was loaded; 3.
after loading, all parameters share one step tensor, which Adam then counts up once a parameter: the bias
correction is wrong from there on, without an error.

A fourth concerns bf16 without the distributed optimizer, whichever Adam: the state is keyed as if every
parameter were bf16; embeddings and head stay in fp32 here, and the state of one parameter would be saved as
another's.
"""

from itertools import chain
from typing import Any

import torch

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.dist_checkpointing.optimizer import (
    get_param_id_to_sharded_param_map,
    make_sharded_optimizer_tensor,
    optim_state_to_sharding_state,
)
from megatron.core.optimizer import distrib_optimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.optimizer.optimizer import Float16OptimizerWithFloat16Params

TORCH_ADAM = not distrib_optimizer.HAVE_APEX_OR_TE

_set_states = DistributedOptimizer._set_main_param_and_optimizer_states
_load_state_dict = DistributedOptimizer.load_state_dict


def complete_adam_state(optimizer: Any) -> None:
    """Give every parameter of torch's Adam what its first step would give it, where it is not there yet."""
    for part in getattr(optimizer, "chained_optimizers", [optimizer]) if TORCH_ADAM else []:
        for parameter in [p for group in part.optimizer.param_groups for p in group["params"]]:
            state = part.optimizer.state[parameter]
            if "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state.setdefault("exp_avg", torch.zeros_like(parameter.data))
                state.setdefault("exp_avg_sq", torch.zeros_like(parameter.data))


def _set_states_with_step(self: Any, model_param: Any, tensors: dict[str, torch.Tensor]) -> None:
    group, order = self.model_param_group_index_map[model_param]
    state = self.optimizer.state[self.optimizer.param_groups[group]["params"][order]]
    _set_states(self, model_param, {"step": state["step"].clone(), **tensors})


def _load_with_own_steps(self: Any, state_dict: dict[str, Any]) -> None:
    _load_state_dict(self, state_dict)
    for state in self.optimizer.state.values():
        state["step"] = state["step"].clone()


def _mixed_sharded_state_dict(
    self: Any, model_sharded_state_dict: Any, is_loading: bool = False, metadata: Any = None
) -> dict[str, Any]:
    """Megatron's own, with the parameters in the optimizer's order, bf16 and fp32 ones alike."""
    if is_loading:
        self.init_state_fn(self.optimizer, self.config)
    state = self.state_dict()
    pairs = list(zip(chain(*self.float16_groups), chain(*self.fp32_from_float16_groups), strict=True))
    model_of = {id(main): model for model, main in pairs}
    parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
    sharded = get_param_id_to_sharded_param_map(
        model_sharded_state_dict, [model_of.get(id(p), p) for p in parameters]
    )
    number_of = {id(p): number for number, p in enumerate(parameters)}
    state["fp32_from_fp16_params"] = [
        [
            make_sharded_optimizer_tensor(sharded[number_of[id(p)]], p, "optimizer.state.fp32_param")
            for p in group
        ]
        for group in self.fp32_from_float16_groups
    ]
    step = self._extract_common_per_param_step(state["optimizer"])
    optim_state_to_sharding_state(state["optimizer"], sharded, exclude_keys=("step",))
    if step:
        state["optimizer"]["state"]["common_step"] = step
    return state


Float16OptimizerWithFloat16Params.sharded_state_dict = _mixed_sharded_state_dict
if TORCH_ADAM:
    DistributedOptimizer._set_main_param_and_optimizer_states = _set_states_with_step
    DistributedOptimizer.load_state_dict = _load_with_own_steps
