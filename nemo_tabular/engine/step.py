"""One training step on Megatron's schedule, gradient buffers and optimizer: batches enter, new weights and
the loss leave.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import OptimConfig

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.enums import ModelType
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule


class _Module(MegatronModule):
    """Gives any module the face that Megatron's wrappers ask for."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__(config=module.config)  # type: ignore[arg-type]
        self.module = module
        self.model_type = ModelType.encoder_or_decoder

    def set_input_tensor(self, input_tensor: Any) -> None:
        pass

    def forward(self, batch: Any) -> Any:
        return self.module(batch)


class TrainStep:
    """Owns the gradient buffers and the optimizer of a module whose forward returns (sum of losses, its
    parts, number of documents).
    """

    def __init__(self, module: torch.nn.Module, optim: OptimConfig, groups: ProcessGroupCollection) -> None:
        config: Any = module.config
        self.groups, self.clip_grad = groups, optim.clip_grad
        bf16 = config.params_dtype == torch.bfloat16
        self.model = DistributedDataParallel(
            config=config,
            ddp_config=DistributedDataParallelConfig(
                use_distributed_optimizer=optim.use_distributed_optimizer, grad_reduce_in_fp32=bf16
            ),
            module=_Module(module),
            pg_collection=groups,
        )
        self.optimizer = get_megatron_optimizer(
            OptimizerConfig(
                optimizer="adam",
                lr=optim.lr or 0.0,  # set at each step
                min_lr=optim.min_lr,
                weight_decay=optim.weight_decay,
                adam_beta1=optim.adam_beta1,
                adam_beta2=optim.adam_beta2,
                adam_eps=optim.adam_eps,
                clip_grad=0.0,
                bf16=bf16,
                params_dtype=config.params_dtype,
                use_distributed_optimizer=optim.use_distributed_optimizer,
            ),
            [self.model],
            use_gloo_process_groups=False,
            pg_collection=groups,
        )
        for group in self._param_groups():
            group["fused"], group["foreach"] = True, False  # .8 ms a step less than the loop over parameters
        config.finalize_model_grads_func = finalize_model_grads if self._several_ranks() else _one_rank
        self._forward_backward = get_forward_backward_func()

    def _several_ranks(self) -> bool:
        return torch.distributed.get_world_size() > 1

    def _param_groups(self) -> list[dict[str, Any]]:
        parts = getattr(self.optimizer, "chained_optimizers", [self.optimizer])
        return [group for part in parts for group in part.optimizer.param_groups]

    def _clip(self) -> float:
        """Norm of the gradient, after which no gradient is longer than clip_grad. One pass over the flat
        buffers.
        """
        buffers = [b.grad_data for b in self.model.buffers]
        norm = torch.stack([torch.linalg.vector_norm(b, dtype=torch.float32) for b in buffers]).norm()
        if self.clip_grad:
            scale = (self.clip_grad / (norm + 1e-6)).clamp(max=1.0)
            for buffer in buffers:
                buffer.mul_(scale)
        return float(norm)

    def __call__(self, batches: Sequence[Any], lr: float) -> tuple[float, float]:
        """Forward and backward over the micro-batches, then the update.

        Returns the mean loss a document of this rank (nats) and the gradient's norm. Where either is not
        finite the update is skipped and the weights stay as they were; the caller decides what that means.
        """
        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        results = self._forward_backward(
            forward_step_func=_forward_step,
            data_iterator=iter(batches),
            model=[self.model],
            num_microbatches=len(batches),
            seq_length=1,
            micro_batch_size=1,
            forward_only=False,
            pg_collection=self.groups,
        )
        loss = float(torch.stack([r["loss"] for r in results]).mean())
        norm = self._clip()
        if norm < float("inf"):
            for group in self._param_groups():
                group["lr"] = lr
            self.optimizer.step()
        return loss, norm

    def optimizer_state(self) -> dict[str, Tensor]:
        """First and second moments and step counts, flat: "<index>.<name>" in the order of the parameters."""
        state = {}
        for part, optimizer in enumerate(getattr(self.optimizer, "chained_optimizers", [self.optimizer])):
            for index, entry in optimizer.optimizer.state_dict()["state"].items():
                for name, value in entry.items():
                    state[f"{part}.{index}.{name}"] = torch.as_tensor(value)
            for index, main in enumerate(_main_weights(optimizer)):
                state[f"{part}.{index}.main"] = main.detach()
        return state

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_state`, for the same model and layout."""
        for part, optimizer in enumerate(getattr(self.optimizer, "chained_optimizers", [self.optimizer])):
            inner = optimizer.optimizer
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                owner, number, name = key.split(".")
                if int(owner) == part and name != "main":
                    entries.setdefault(int(number), {})[name] = value
            inner.load_state_dict({"state": entries, "param_groups": inner.state_dict()["param_groups"]})
            for index, main in enumerate(_main_weights(optimizer)):
                main.data.copy_(state[f"{part}.{index}.main"])


def _main_weights(optimizer: Any) -> list[Tensor]:
    """The fp32 copies that a bf16 optimizer keeps; empty in fp32."""
    groups = getattr(optimizer, "fp32_from_float16_groups", [])
    return [weight for group in groups for weight in group]


def _one_rank(model: list[Any], *_args: Any, **_kwargs: Any) -> None:
    """Nothing is left of Megatron's finalisation where there is nobody to exchange gradients with."""


def _forward_step(batches: Iterator[Any], model: torch.nn.Module) -> tuple[Tensor, Callable[..., Any]]:
    total, _parts, documents = model(next(batches))

    def loss_func(loss: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        count = torch.tensor(documents, dtype=torch.int, device=loss.device)
        return loss.clone(), count, {"loss": loss.detach() / documents}

    return total, loss_func
