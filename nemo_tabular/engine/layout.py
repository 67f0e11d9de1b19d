"""How many ranks do what: arithmetic on sizes, no devices and no processes."""

from dataclasses import dataclass

from ..config import ModelConfig
from ..errors import ConfigError


@dataclass(frozen=True)
class ParallelLayout:
    """Sizes of the parallel dimensions, under Megatron's names; the data-parallel size is what remains."""

    world_size: int = 1
    tensor_model_parallel_size: int = 1
    pipeline_model_parallel_size: int = 1
    context_parallel_size: int = 1
    virtual_pipeline_model_parallel_size: int | None = None

    def __post_init__(self) -> None:
        if self.world_size % self.model_size:
            raise ConfigError(
                f"model: tensor x pipeline x context parallel = {self.model_size} ranks do not divide the "
                f"{self.world_size} started; start a multiple of {self.model_size}, "
                "or change model.*_parallel_size"
            )

    @classmethod
    def of(cls, model: ModelConfig, world_size: int) -> "ParallelLayout":
        """The layout that `model` asks for, on so many ranks."""
        return cls(
            world_size,
            model.tensor_model_parallel_size,
            model.pipeline_model_parallel_size,
            model.context_parallel_size,
            model.virtual_pipeline_model_parallel_size,
        )

    @property
    def model_size(self) -> int:
        return (
            self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size
        )

    @property
    def data_parallel_size(self) -> int:
        return self.world_size // self.model_size

    def micro_batch_size(self, global_batch_size: int, wanted: int | None) -> int:
        """Documents at a time on one rank: what is wanted, or the whole of its share of the global batch;
        in a pipeline as many pieces as it has stages.

        Raises ConfigError where batch and layout do not fit: data-parallel ranks need equal shares, and a
        pipeline's stages hand over tensors of one shape.
        """
        ranks, stages = self.data_parallel_size, self.pipeline_model_parallel_size
        share, rest = divmod(global_batch_size, ranks)
        if rest:
            fitting = " or ".join(str(n * ranks) for n in (share, share + 1) if n)
            raise ConfigError(
                f"data.global_batch_size {global_batch_size} is no multiple of the {ranks} data-parallel "
                f"ranks; set it to {fitting}, or start another number of ranks"
            )
        size = min(wanted or -(-share // stages), share)
        if stages == 1:
            return size
        pieces, rest = divmod(share, size)
        if rest:
            raise ConfigError(
                f"data.micro_batch_size {size} does not divide the {share} documents of a data-parallel "
                "rank, as pipeline parallelism needs; set data.micro_batch_size, or a "
                f"data.global_batch_size that is a multiple of {size * ranks}"
            )
        if self.virtual_pipeline_model_parallel_size and pieces % stages:
            raise ConfigError(
                f"interleaving needs a multiple of pipeline_model_parallel_size {stages} micro-batches a "
                f"step, found {pieces}: change data.micro_batch_size {size} or data.global_batch_size "
                f"{global_batch_size}, or leave model.virtual_pipeline_model_parallel_size unset"
            )
        return size
