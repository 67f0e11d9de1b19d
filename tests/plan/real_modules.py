"""Layouts as JSON enter on the command line; what real modules of their ranks hold leaves on stdout, as JSON.

One process plays any rank of hundreds: torch's `fake` process group answers every exchange at once, and fake
tensors have shapes and types but no memory. A process of its own, since both change what torch does for all.
"""

import contextlib
import json
import logging
import sys
import weakref
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nemo_tabular.batches import DocumentBatch
from nemo_tabular.config import Config, make_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.stage import stages
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.gpt import TabularGPT
from nemo_tabular.plan import Workload


def storages(tensors: Any) -> dict[int, int]:
    """Bytes of the memory behind the tensors, each piece once."""
    found = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage.nbytes()
    return found


def build(config: Config, work: Workload, world: int, pipeline_rank: int) -> TrainStep:
    """What `nemo_tabular train` builds on this rank."""
    if dist.is_initialized():
        dist.destroy_process_group()
    ranks = world // config.model.pipeline_model_parallel_size
    dist.init_process_group("fake", store=FakeStore(), rank=pipeline_rank * ranks, world_size=world)
    groups = start(ParallelLayout.of(config.model, world), seed=1)
    chunks = [
        TabularGPT(
            config.model,
            config.trainer.precision,
            work.sizes,
            groups,
            histories=work.histories,
            max_rows=work.window_rows,
            stage=stage,
        )
        for stage in stages(groups, config.model.virtual_pipeline_model_parallel_size)
    ]
    return TrainStep(chunks, config.optim, groups)


def optimizer_tensors(step: TrainStep) -> list[torch.Tensor]:
    """Everything that the optimizer holds after a step, without the weights and gradients themselves."""
    held = []
    for part in getattr(step.optimizer, "chained_optimizers", [step.optimizer]):
        for group in part.optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)
        part.optimizer.step()
        held += [p for group in part.optimizer.param_groups for p in group["params"]]
        held += [x for state in part.optimizer.state.values() for x in state.values() if x.dim()]
    return held


def batch_of(work: Workload, size: int) -> Any:
    if not work.histories:
        return torch.zeros(work.slots, size, dtype=torch.int64)
    codes = torch.zeros(work.window_rows, work.slots, size, dtype=torch.int64)
    flags = torch.ones(size, dtype=torch.bool)
    scored = torch.ones(work.window_rows, size, dtype=torch.bool)
    return DocumentBatch(codes, codes, torch.full((size,), work.window_rows), scored, flags, flags)


def kept_for_backward(step: TrainStep, config: Config, work: Workload, size: int) -> int:
    """Bytes that one forward pass of one micro-batch through all this rank's chunks leaves behind."""
    held: dict[int, int] = {}
    alive = []  # so that no memory is used twice
    parameters = storages(p for module in step.modules for p in module.parameters())

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        held.update(storages([tensor]))
        return tensor

    batch = batch_of(work, size)
    for module in step.modules:
        if not module.stage.first:
            length = module.shape(batch)[0] // config.model.context_parallel_size
            length //= config.model.tensor_model_parallel_size if config.model.sequence_parallel else 1
            shape = length, size, config.model.hidden_size
            module.set_input_tensor(
                [torch.zeros(*shape, dtype=module.config.params_dtype, requires_grad=True)]
            )
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = module(batch)
        if not module.stage.last:  # held by the schedule
            alive.append(output)
            held.update(storages([output]))
    return sum(bytes for key, bytes in held.items() if key not in parameters)


def fake_nothing_else() -> None:
    """Replace what looks at numbers, which fake tensors have not."""
    from megatron.core.tensor_parallel.random import get_cuda_rng_tracker  # after the engine has prepared it
    from torch.nn.attention import bias

    dist.all_gather_object = all_gather_object
    tracker: Any = type(get_cuda_rng_tracker())
    tracker.fork = lambda self, name="": contextlib.nullcontext()  # there is no dropout
    bias.causal_lower_right = lambda *lengths: None  # flash attention keeps no mask


def all_gather_object(objects: list[Any], mine: Any, group: Any = None) -> None:
    """The other ranks have the same."""
    objects[:] = [mine] * len(objects)


class Living(TorchDispatchMode):
    """The bytes of all tensors that were made within, now and at the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = set(storages(x for x in tree_leaves([args, kwargs]) if isinstance(x, torch.Tensor)))
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), known)
        return made

    def _count(self, storage: Any, known: set[int]) -> None:
        key = storage._cdata
        if key not in known and key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


def one_step(step: TrainStep, batches: list[Any]) -> dict[str, int]:
    """Most forward passes of this rank that wait for their backward pass in a step of Megatron's schedule,
    and most bytes of what the step makes."""
    from megatron.core.pipeline_parallel import schedules

    flying, most = 0, 0
    backward = schedules.backward_step

    def forward_step(batches: Any, chunk: Any) -> Any:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        return chunk(next(batches)), lambda output: (output[0], torch.tensor(1), output[0].detach())

    def backward_step(*arguments: Any, **named: Any) -> Any:
        nonlocal flying
        flying -= 1
        return backward(*arguments, **named)

    schedules.backward_step = backward_step
    step.modules[0].config.finalize_model_grads_func = None
    living = Living()
    try:
        with living:
            step._run(batches, forward_step, forward_only=False)
    finally:
        schedules.backward_step = backward
    return {"in_flight": most, "peak": living.most}


def measure(case: dict[str, Any]) -> dict[str, int]:
    config, work = make_config(case["config"]), Workload(**case["work"])
    size, place = case["micro_batch_size"], (case["world"], case["pipeline_rank"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = build(config, work, *place)
        if "micro_batches" in case:
            return one_step(step, [batch_of(work, size)] * case["micro_batches"])
        parameters = [p for module in step.modules for p in module.parameters()]
        gradients = storages(buffer.grad_data for chunk in step.model for buffer in chunk.buffers)
        weights = storages(parameters)
        made = {
            "parameters": sum(p.numel() for p in parameters),
            "weights": sum(weights.values()),
            "gradients": sum(gradients.values()),
            "activations": kept_for_backward(step, config, work, size),
        }
        optimizer = storages(optimizer_tensors(step))
        optimizer = {key: size for key, size in optimizer.items() if key not in weights | gradients}
    return made | {"optimizer": sum(optimizer.values())}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    fake_nothing_else()
    print(json.dumps([measure(case) for case in json.loads(sys.argv[1])]))
