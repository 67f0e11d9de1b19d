"""A model, its layout and the shape of its sequences enter; parameters and bytes of each pipeline rank leave.

What is counted is what `TabularGPT` holds and autograd keeps: the tests measure both on real modules. With
sequence parallelism as in Korthikanti et al. 2022, less what our block has not: no dropout masks, no scores
(attention is fused), no linear biases.

Shapes: T positions of a sequence, B sequences of a micro-batch, H hidden, F width of the MLP, V ids.
"""

import math
from dataclasses import dataclass

from ..config import ModelConfig
from ..engine.layout import ParallelLayout
from .workload import Workload

PAD_VOCABULARY_TO = 16  # as engine/rows.py does
FP32, BF16, INT64 = 4, 2, 8
MOMENTS = 2  # of Adam


@dataclass(frozen=True)
class Parameters:
    """Of one rank: those of the blocks, kept in the precision of the arithmetic, and the others, in fp32."""

    blocks: int
    others: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.blocks + self.others


@dataclass(frozen=True)
class Bytes:
    """What one rank keeps on its GPU."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    """What lives for a moment at the fullest: gradients of one layer's activations, logits."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.working


def norm_parameters(model: ModelConfig) -> int:
    """Of one norm."""
    return model.hidden_size * (1 if model.normalization == "RMSNorm" else 2)


def layer_parameters(model: ModelConfig) -> int:
    """Of this rank's share of one block: tensor-parallel ranks share matrices, each has the norms."""
    h, f, tp = model.hidden_size, model.feed_forward_size, model.tensor_model_parallel_size
    return 2 * norm_parameters(model) + (4 * h * h + 2 * h * f) // tp


def vocabulary_rows(rows: int, tensor_parallel: int) -> int:
    """Of the table of ids on one tensor-parallel rank, padding included."""
    multiple = math.lcm(PAD_VOCABULARY_TO, tensor_parallel)
    return -(-rows // multiple) * multiple // tensor_parallel


def rank_parameters(model: ModelConfig, work: Workload, pipeline_rank: int) -> Parameters:
    """Of one pipeline rank; the first has the embedding, the last the output layer tied to it."""
    h, stages = model.hidden_size, model.pipeline_model_parallel_size
    first, last = pipeline_rank == 0, pipeline_rank == stages - 1
    rows = vocabulary_rows(work.table_rows, model.tensor_model_parallel_size)
    blocks = model.num_layers // stages * layer_parameters(model) + last * norm_parameters(model)
    others = rows * h * (first or last) + rows * last
    if first:
        begins, places = (2, work.window_rows + 1) if work.histories else (1, 0)
        others += (work.slots + begins + places) * h
    return Parameters(blocks, others)


def model_parameters(model: ModelConfig, work: Workload) -> int:
    """Of the whole model as it is saved: each counted once, no padding and no waves."""
    alone = model.model_copy(
        update={
            "tensor_model_parallel_size": 1,
            "pipeline_model_parallel_size": 1,
            "sequence_parallel": False,
        }
    )
    beside = vocabulary_rows(work.table_rows, 1) - work.vocab_size
    return rank_parameters(alone, work, 0).total - beside * (model.hidden_size + 1)


def state_bytes(
    parameters: Parameters, precision: str, distributed_optimizer: bool, sharing: int
) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer of one rank; `sharing`: ranks over which the distributed
    optimizer is spread. Gradients are summed in fp32; the optimizer has two moments and, of bf16 weights, a
    copy in fp32.
    """
    bf16 = precision == "bf16-mixed"
    weights = parameters.blocks * (BF16 if bf16 else FP32) + parameters.others * FP32
    copies = parameters.blocks * FP32 if bf16 else 0
    state = parameters.total * MOMENTS * FP32 + copies
    return weights, parameters.total * FP32, -(-state // sharing) if distributed_optimizer else state


def positions_of_a_rank(model: ModelConfig, positions: int) -> int:
    """Positions of a sequence on one context-parallel rank, padded to what can be split."""
    parts = model.context_parallel_size
    multiple = (2 * parts if parts > 1 else 1) * (
        model.tensor_model_parallel_size if model.sequence_parallel else 1
    )
    return -(-positions // multiple) * multiple // parts


def element(precision: str) -> int:
    """Bytes of one activation."""
    return BF16 if precision == "bf16-mixed" else FP32


def hidden_bytes(model: ModelConfig, tokens: int, precision: str) -> int:
    """Of one hidden state (T, B, H) between blocks; sequence parallelism splits it."""
    split = model.tensor_model_parallel_size if model.sequence_parallel else 1
    return tokens * model.hidden_size * element(precision) // split


def layer_bytes(model: ModelConfig, tokens: int, precision: str) -> int:
    """What one block keeps for its backward pass: inputs and outputs of the norms; queries, keys, values and
    context; both sides of the MLP's non-linearity. `tokens`: T times B on this rank.
    """
    h, f, tp, cp = (
        model.hidden_size,
        model.feed_forward_size,
        model.tensor_model_parallel_size,
        model.context_parallel_size,
    )
    attention = 4 * h if cp == 1 else 5 * h + 2 * h * cp  # gathered keys and values, and the context twice
    shared = tokens * (attention + 2 * f) * element(precision) // tp
    log_sums = tokens * model.num_attention_heads * FP32 // tp
    return 4 * hidden_bytes(model, tokens, precision) + shared + log_sums + 2 * norm_statistics(model, tokens)


def norm_statistics(model: ModelConfig, tokens: int) -> int:
    """Mean and inverse deviation of each position, of one norm."""
    split = model.tensor_model_parallel_size if model.sequence_parallel else 1
    return tokens * FP32 * (1 if model.normalization == "RMSNorm" else 2) // split


def chunk_bytes(model: ModelConfig, tokens: int, precision: str) -> int:
    """What one micro-batch keeps in one model chunk, between its forward and its backward pass."""
    layers, count = model.layers_of_a_chunk, model.recompute_num_layers or 1
    whole, hidden = layer_bytes(model, tokens, precision), hidden_bytes(model, tokens, precision)
    if model.recompute_granularity is None:
        return layers * whole
    if model.recompute_method == "uniform":
        return layers // count * hidden
    again = min(count, layers)
    return again * hidden + (layers - again) * whole


def chunks_in_flight(layout: ParallelLayout, pipeline_rank: int, micro_batches: int) -> int:
    """Model chunks whose micro-batches wait for their backward pass, at most: Megatron's schedules, 1F1B or
    interleaved.
    """
    stages, chunks = layout.pipeline_model_parallel_size, layout.virtual_pipeline_model_parallel_size or 1
    warm_up = stages - pipeline_rank - 1
    if chunks > 1:
        warm_up = 2 * warm_up + (chunks - 1) * stages
    return min(warm_up + 1, micro_batches * chunks)


def activation_bytes(
    model: ModelConfig,
    work: Workload,
    layout: ParallelLayout,
    precision: str,
    micro_batch_size: int,
    micro_batches: int,
    pipeline_rank: int,
) -> int:
    """What one rank keeps for backward passes when most micro-batches are in flight."""
    tokens = positions_of_a_rank(model, work.positions) * micro_batch_size
    flying = chunks_in_flight(layout, pipeline_rank, micro_batches)
    kept = flying * chunk_bytes(model, tokens, precision)
    last = pipeline_rank == layout.pipeline_model_parallel_size - 1
    hidden = hidden_bytes(model, tokens, precision)
    if model.recompute_granularity is not None:  # the layers in hand are there in full
        group = model.recompute_num_layers if model.recompute_method == "uniform" else 1
        kept += (group or 1) * layer_bytes(model, tokens, precision)
    if pipeline_rank == 0:
        kept += flying * tokens * INT64  # ids
    if not last:
        kept += flying * hidden  # what was handed over is held until its gradient comes back
    if last:
        kept += hidden + norm_statistics(model, tokens) + head_bytes(model, work, tokens, precision)
    return kept


def head_bytes(model: ModelConfig, work: Workload, tokens: int, precision: str) -> int:
    """What the slot head keeps: gradients of the hidden states and of the table, made in the forward pass."""
    rows = vocabulary_rows(work.table_rows, model.tensor_model_parallel_size)
    return tokens * model.hidden_size * element(precision) + rows * (model.hidden_size + 1) * FP32


def working_bytes(
    model: ModelConfig, work: Workload, precision: str, micro_batch_size: int, last: bool
) -> int:
    """At the fullest moment: gradients in the MLP on the way back, at last a matrix's before it is added to
    the sum; or the output layer's logits.
    """
    h, f, tp = model.hidden_size, model.feed_forward_size, model.tensor_model_parallel_size
    tokens = positions_of_a_rank(model, work.positions) * micro_batch_size
    both_sides, one_side = (tokens * (n * f // tp + 2 * h) for n in (2, 1))
    layer = max(both_sides, one_side + h * f // tp) * element(precision)
    if not last:
        return layer
    counts = [n * micro_batch_size / model.context_parallel_size for n in work.predictions]
    cells = [count * size for count, size in zip(counts, work.sizes, strict=True)]
    logits = sum(cells) / tp if tp > 1 else max(cells)  # shared slots are made whole together
    return max(layer, int(2 * logits * FP32) + tokens * h * FP32)
