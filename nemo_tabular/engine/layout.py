"""How many ranks do what: arithmetic on sizes, no devices and no processes."""

from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True)
class ParallelLayout:
    """Sizes of the parallel dimensions, under Megatron's names; the data-parallel size is what remains."""

    world_size: int = 1
    tensor_model_parallel_size: int = 1
    pipeline_model_parallel_size: int = 1
    context_parallel_size: int = 1

    def __post_init__(self) -> None:
        if self.world_size % self.model_size:
            raise ConfigError(
                f"model: tensor x pipeline x context parallel = {self.model_size} ranks do not divide the "
                f"{self.world_size} started; start a multiple of {self.model_size}, "
                "or change model.*_parallel_size"
            )

    @property
    def model_size(self) -> int:
        return (
            self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size
        )

    @property
    def data_parallel_size(self) -> int:
        return self.world_size // self.model_size
