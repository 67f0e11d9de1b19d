"""One model chunk of a pipeline: what Megatron's schedule, gradient buffers and checkpoints ask of it.

A model derives from `StageModule` and is built once for each of this rank's stages: the first holds the
embedding, the last the output layer tied to it, each some of the layers.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.enums import ModelType
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import TransformerBlock
from megatron.core.transformer.utils import ensure_metadata_has_dp_cp_group, sharded_state_dict_default
from megatron.core.utils import make_sharded_tensor_for_checkpoint, make_tp_sharded_tensor_for_checkpoint


@dataclass(frozen=True)
class Stage:
    """Where a model chunk stands in the pipeline."""

    first: bool = True
    last: bool = True
    vp_stage: int | None = None
    """Number of the chunk on its rank where the pipeline is interleaved."""


WHOLE = Stage()


def stages(groups: ProcessGroupCollection, virtual_pipeline_model_parallel_size: int | None) -> list[Stage]:
    """This rank's stages, one for each model chunk it holds."""
    rank, ranks, chunks = groups.pp.rank(), groups.pp.size(), virtual_pipeline_model_parallel_size
    if chunks is None:
        return [Stage(rank == 0, rank == ranks - 1)]
    last = ranks - 1, chunks - 1
    return [Stage((rank, chunk) == (0, 0), (rank, chunk) == last, chunk) for chunk in range(chunks)]


def name_in_whole(name: str, block: TransformerBlock, prefix: str = "") -> str:
    """`layers.0...` of a stage's block as it is called in the whole model: counted from the first layer."""
    offset = block.layers[0].layer_number - 1 if len(block.layers) else 0
    return re.sub(
        rf"^{re.escape(prefix)}layers\.(\d+)\.", lambda m: f"{prefix}layers.{int(m[1]) + offset}.", name
    )


class StageModule(MegatronModule):
    """`forward(batch)` of a last stage gives (sum of losses in nats, ...), of others the hidden states.

    A model sets `blocks` (`engine.block.transformer_block`) and, on the first and the last stage,
    `embedding`.
    """

    share_embeddings_and_output_weights = True
    model_type = ModelType.encoder_or_decoder
    blocks: TransformerBlock
    embedding: torch.nn.Parameter

    def __init__(self, config: TransformerConfig, groups: ProcessGroupCollection, stage: Stage) -> None:
        super().__init__(config=config)
        self.groups, self.stage, self.vp_stage = groups, stage, stage.vp_stage
        self.pre_process, self.post_process = stage.first, stage.last

    def shape(self, batch: Any) -> tuple[int, int]:
        """(positions after padding, sequences) of a batch: what the stages hand over."""
        raise NotImplementedError

    def tie(self) -> None:
        """Mark the embedding, once it is there, as held by two stages that keep it equal."""
        if self.stage.first != self.stage.last:
            self.embedding.shared_embedding = True  # type: ignore[attr-defined]
            self.embedding.shared = self.stage.last  # type: ignore[attr-defined]  # the first one counts

    def shared_embedding_or_output_weight(self) -> Tensor:
        """What Megatron keeps equal on the first and the last stage."""
        return self.embedding

    def set_input_tensor(self, input_tensor: list[Tensor]) -> None:
        """What the stage before handed over."""
        self.blocks.set_input_tensor(input_tensor[0])

    def name_in_whole(self, name: str) -> str:
        """A parameter of this chunk as it is called in the whole model."""
        return name_in_whole(name, self.blocks, "blocks.")

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: Any = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Megatron's description of every tensor for its distributed checkpoint: whose part of what it is."""
        metadata = ensure_metadata_has_dp_cp_group(metadata)
        found: dict[str, Any] = {}
        shared: dict[str, Any] = {"tp_group": self.groups.tp, "dp_cp_group": metadata["dp_cp_group"]}
        for name, child in self.named_children():
            found |= sharded_state_dict_default(
                child, f"{prefix}{name}.", sharded_offsets, metadata, tp_group=self.groups.tp
            )
        for name, parameter in self.named_parameters(recurse=False):
            key = f"{prefix}{name}"
            if getattr(parameter, "tensor_model_parallel", False):
                twin = getattr(parameter, "shared", False)
                found[key] = make_tp_sharded_tensor_for_checkpoint(
                    parameter,
                    key,
                    replica_id=(int(twin), 0, metadata["dp_cp_group"].rank()),
                    allow_shape_mismatch=True,  # ranks that do not divide the padding have more of it
                    **shared,
                )
            else:
                found[key] = make_sharded_tensor_for_checkpoint(parameter, key, **shared)
        return found
