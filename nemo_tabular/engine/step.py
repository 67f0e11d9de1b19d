"""One training step on Megatron's schedule, gradient buffers and optimizer: batches enter, new weights and
the loss leave. Under every layout the loss and the norm are the whole step's, and the same on all ranks.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..config import OptimConfig
from .gradients import clip_, counted_once, squared_norm
from .stage import StageModule

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.pipeline_parallel.p2p_communication import P2PCommunicator
from megatron.core.process_groups_config import ProcessGroupCollection


class TrainStep:
    """Owns the gradient buffers and the optimizer of this rank's model chunks, of which the last in the
    pipeline returns (sum of losses, its parts, number of documents).

    `model`: the chunks, each in Megatron's DistributedDataParallel; one unless the pipeline is interleaved.
    """

    def __init__(
        self, module: StageModule | Sequence[StageModule], optim: OptimConfig, groups: ProcessGroupCollection
    ) -> None:
        self.modules = [module] if isinstance(module, StageModule) else list(module)
        self.groups, self.clip_grad = groups, optim.clip_grad
        config: Any = self.modules[0].config
        self.bf16 = config.params_dtype == torch.bfloat16
        self.model = [self._buffered(m, optim, first=i == 0) for i, m in enumerate(self.modules)]
        self.optimizer = get_megatron_optimizer(
            self._optimizer_config(optim), self.model, use_gloo_process_groups=False, pg_collection=groups
        )
        for group in self._param_groups():
            group["fused"], group["foreach"] = True, False  # .8 ms a step less than the loop over parameters
        self._several_ranks = dist.get_world_size() > 1
        self._overlap_param_gather = optim.overlap_param_gather
        config.finalize_model_grads_func = finalize_model_grads if self._several_ranks else _one_rank
        if optim.overlap_grad_reduce:
            waits = [chunk.no_sync for chunk in self.model]
            config.no_sync_func = waits if len(waits) > 1 else waits[0]
        self._schedule = get_forward_backward_func(
            groups.pp.size(), config.virtual_pipeline_model_parallel_size
        )
        self._links: dict[str, Any] = {"pg_collection": groups}
        if groups.pp.size() > 1:
            self._links["p2p_communicator"] = P2PCommunicator(groups.pp, config)
        self.device = next(self.modules[0].parameters()).device
        self._counted = counted_once(self.model, groups, optim.use_distributed_optimizer)

    def _buffered(self, module: StageModule, optim: OptimConfig, first: bool) -> DistributedDataParallel:
        return DistributedDataParallel(
            config=module.config,
            ddp_config=DistributedDataParallelConfig(
                use_distributed_optimizer=optim.use_distributed_optimizer,
                overlap_grad_reduce=optim.overlap_grad_reduce,
                overlap_param_gather=optim.overlap_param_gather,
                grad_reduce_in_fp32=self.bf16,
            ),
            module=module,
            disable_bucketing=not first,
            pg_collection=self.groups,
        )

    def _optimizer_config(self, optim: OptimConfig) -> OptimizerConfig:
        return OptimizerConfig(
            optimizer="adam",
            lr=optim.lr or 0.0,  # set at each step
            min_lr=optim.min_lr,
            weight_decay=optim.weight_decay,
            adam_beta1=optim.adam_beta1,
            adam_beta2=optim.adam_beta2,
            adam_eps=optim.adam_eps,
            clip_grad=0.0,  # done here
            bf16=self.bf16,
            params_dtype=self.modules[0].config.params_dtype,
            use_distributed_optimizer=optim.use_distributed_optimizer,
            overlap_param_gather=optim.overlap_param_gather,
        )

    def _param_groups(self) -> list[dict[str, Any]]:
        parts = getattr(self.optimizer, "chained_optimizers", [self.optimizer])
        return [group for part in parts for group in part.optimizer.param_groups]

    def __call__(self, batches: Sequence[Any], lr: float) -> tuple[float, float]:
        """Forward and backward over this rank's micro-batches, then the update.

        Returns the mean loss a document (nats) and the gradient's norm, of all ranks' data and parameters.
        Where either is not finite the update is skipped and the weights stay as they were; the caller decides
        what that means.
        """
        for chunk in self.model:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        documents = sum(self.modules[0].shape(batch)[1] for batch in batches)
        scale = len(batches) * self.groups.cp.size()

        def forward_step(batches: Iterator[Any], chunk: torch.nn.Module) -> tuple[Any, Callable[..., Any]]:
            def loss_func(output: tuple[Tensor, Tensor, int]) -> tuple[Tensor, Tensor, Tensor]:
                # Megatron divides by the count and the number of micro-batches, and averages over ranks
                count = torch.tensor(documents, dtype=torch.int, device=output[0].device)
                return output[0] * scale, count, output[0].detach()

            return chunk(next(batches)), loss_func

        sums = self._run(batches, forward_step, forward_only=False)
        loss, norm = self._totals(sums, documents)
        clip_([b.grad_data for chunk in self.model for b in chunk.buffers], norm, self.clip_grad)
        if math.isfinite(loss) and math.isfinite(norm):
            for group in self._param_groups():
                group["lr"] = lr
            # the halves of its step(), which would compute the norm once more
            self.optimizer.prepare_grads()
            self.optimizer.step_with_ready_grads()
        return loss, norm

    def _run(self, batches: Sequence[Any], forward_step: Callable[..., Any], **how: Any) -> list[Any]:
        """Megatron's schedule; gives what the last stage computed of each batch, on other stages nothing."""
        length, count = self.modules[0].shape(batches[0])
        iterators = [iter(batches) for _ in self.model]
        return self._schedule(
            forward_step_func=forward_step,
            data_iterator=iterators if len(iterators) > 1 else iterators[0],
            model=self.model,
            num_microbatches=len(batches),
            seq_length=length,
            micro_batch_size=count,
            **how,
            **self._links,
        )

    def _totals(self, sums: Sequence[Tensor], documents: int) -> tuple[float, float]:
        """Loss and gradient norm over all ranks, in one exchange."""
        squared = squared_norm(self._counted, self.device)
        counts = sums and self.groups.tp.rank() == 0  # tensor-parallel ranks computed the same loss
        loss = torch.stack(list(sums)).double().sum() if counts else torch.zeros_like(squared)
        both = torch.stack([loss / (documents * self.groups.dp.size()), squared])
        if self._several_ranks:
            dist.all_reduce(both)
        total, squared_total = both.tolist()
        return total, squared_total**0.5

    def total(self, batches: Iterable[Any], measure: str, shape: Sequence[int]) -> Tensor:
        """Sum over all ranks' batches of what the last stage's method `measure(batch)` gives (float64, of
        this shape, a rank's own part of it); no gradients. The ranks of one data-parallel place bring the
        same batches, different places as many or as few as they like.
        """
        self.settle()

        def forward_step(batches: Iterator[Any], chunk: torch.nn.Module) -> tuple[Any, Callable[..., Any]]:
            return chunk(next(batches), measure=measure), lambda found, non_loss_data: found

        sums = torch.zeros(*shape, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for batch in batches:
                # interleaved pipelines want as many micro-batches as they have stages
                copies = self.groups.pp.size() if len(self.model) > 1 else 1
                found = self._run(
                    [batch] * copies, forward_step, forward_only=True, collect_non_loss_data=True
                )
                sums += found[0] if found else 0
        if self._several_ranks:
            dist.all_reduce(sums)
        return sums

    def settle(self) -> None:
        """Wait until every rank's weights are there: with overlap_param_gather they still arrive after a
        step."""
        if self._overlap_param_gather:
            for chunk in self.model:
                chunk.start_param_sync(force_sync=True)

    def weights(self) -> dict[str, Tensor]:
        """This rank's part of the parameters, under their names in the whole model."""
        self.settle()
        return {
            module.name_in_whole(name): parameter.detach()
            for module in self.modules
            for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """The inverse of `weights`, for the same layout."""
        for name, parameter in self.weights().items():
            parameter.copy_(weights[name])
        self.optimizer.reload_model_params()


def _one_rank(model: list[Any], *_args: Any, **_kwargs: Any) -> None:
    """Nothing is left of Megatron's finalisation where there is nobody to exchange gradients with."""
