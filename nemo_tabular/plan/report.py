"""An `Estimate` and the layouts that would fit as well enter; a table for people, or JSON, leaves."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .estimate import Estimate

GIB = 2**30
NARROW = 512  # hidden_size below which matrices are too small for a GPU
Fitting = Sequence[tuple[int, Estimate | None]]


def as_json(made: Estimate, others: Fitting) -> dict[str, Any]:
    """Everything that the table says, in bytes, seconds and FLOPs."""
    return _numbers(made) | {
        "config": made.config.model_dump(mode="json"),
        "data": {"source": made.work.source, "slots": made.work.slots, "vocab_size": made.work.vocab_size},
        "fitting": [{"gpus": gpus} | (_numbers(e) if e else {"fits": False}) for gpus, e in others],
    }


def _numbers(made: Estimate) -> dict[str, Any]:
    return {
        "gpus": made.cluster.gpus,
        "fits": made.fits,
        "room": made.cluster.room,
        "layout": asdict(made.layout) | {"data_parallel_size": made.layout.data_parallel_size},
        "overrides": overrides(made),
        "micro_batch_size": made.micro_batch_size,
        "micro_batches": made.micro_batches,
        "pipeline_idle": made.idle,
        "parameters": made.parameters,
        "fullest_pipeline_rank": made.fullest,
        "rank_parameters": made.rank_parameters.total,
        "memory": asdict(made.memory) | {"total": made.memory.total},
        "step_flops": made.step_flops,
        "mfu": made.cluster.mfu,
        "steps": made.steps,
        **asdict(made.time),
    }


def overrides(made: Estimate) -> list[str]:
    """The settings that make a recipe's layout this one, as `train` takes them."""
    model, optim = made.config.model, made.config.optim
    names = [
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
        "virtual_pipeline_model_parallel_size",
        "context_parallel_size",
        "sequence_parallel",
        "recompute_granularity",
        "recompute_method",
        "recompute_num_layers",
    ]
    settings = [f"model.{name}={_yaml(getattr(model, name))}" for name in names]
    return [*settings, f"optim.use_distributed_optimizer={_yaml(optim.use_distributed_optimizer)}"]


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower()


def as_text(made: Estimate, others: Fitting, name: str) -> str:
    """A page: the verdict first, then what is trained, memory, time, and what else fits."""
    verdict = "fits" if made.fits else "DOES NOT FIT"
    memory = f"{_size(made.memory.total)} of {made.cluster.room / GIB:.1f} GiB usable"
    gpus = f"{_count(made.cluster.gpus, 'GPU')} of {made.cluster.gpu_memory:g} GiB"
    head = f"{name} on {gpus}: {verdict}, {memory}"
    if made.fits:
        head += f"; {_duration(made.time.days)} at {made.cluster.mfu:.0%} MFU"
    parts = [[head], _trained(made), _layout(made), _memory(made), _time(made), _others(others, made)]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    return [title, *(f"  {left:<18}{right}" for left, right in rows)]


def _trained(made: Estimate) -> list[str]:
    model, work = made.config.model, made.work
    what = "windows" if work.histories else "rows"
    layers, heads = _count(model.num_layers, "layer"), _count(model.num_attention_heads, "head")
    shape = f"{layers} of {model.hidden_size:,}, {heads}"
    step = f"{made.batch:,} {what} = {made.batch * work.tokens:,} tokens, {_si(made.step_flops)}FLOP"
    return _rows(
        "What is trained",
        [
            ("parameters", f"{made.parameters:,} ({shape}, {made.config.trainer.precision})"),
            ("data", work.source),
            ("a step", step),
            ("steps", f"{made.steps:,}, from {made.steps_from}"),
        ],
    )


def _layout(made: Estimate) -> list[str]:
    model, layout, what = made.config.model, made.layout, "windows" if made.work.histories else "rows"
    pieces = f"{made.micro_batches:,} a step and rank, of {made.micro_batch_size:,} {what}"
    if layout.pipeline_model_parallel_size > 1:
        pieces += f"; pipeline idle {made.idle:.1%} of the time"
    rows = [("layout", _sizes(made)), ("micro-batches", pieces)]
    if model.tensor_model_parallel_size > made.cluster.gpus_per_node:
        rows.append(
            (
                "beware",
                f"tensor parallelism over more than a node's {made.cluster.gpus_per_node} GPUs is slow",
            )
        )
    return _rows("How it is laid out", rows)


def _sizes(made: Estimate) -> str:
    model, layout, optim = made.config.model, made.layout, made.config.optim
    parts = [f"TP {layout.tensor_model_parallel_size}"]
    parts += ["with sequence parallelism"] if model.sequence_parallel else []
    parts += [f"PP {layout.pipeline_model_parallel_size}"]
    chunks = layout.virtual_pipeline_model_parallel_size
    parts += [f"in {chunks} pieces a rank"] if chunks else []
    parts += [f"CP {layout.context_parallel_size}", f"DP {layout.data_parallel_size}"]
    parts += ["with the distributed optimizer"] if optim.use_distributed_optimizer else []
    text = " x ".join(parts).replace(" x with", " with").replace(" x in", " in")
    if model.recompute_granularity:
        text += f"; recomputing ({model.recompute_method}, {model.recompute_num_layers})"
    return text


def _memory(made: Estimate) -> list[str]:
    stages, memory = made.layout.pipeline_model_parallel_size, made.memory
    title = (
        "Memory of a GPU"
        if stages == 1
        else f"Memory of the fullest GPU (stage {made.fullest + 1} of {stages})"
    )
    names = {
        "weights": f"{made.rank_parameters.total:,} parameters",
        "gradients": "summed in fp32",
        "optimizer": "Adam's moments" + (", fp32 weights" if made.config.trainer.precision != "32" else ""),
        "activations": "kept for the backward pass",
        "working": "one layer's gradients, logits",
    }
    values = asdict(memory) | {"total": memory.total}
    names["total"] = f"of {made.cluster.room / GIB:.1f}; {1 - made.cluster.usable:.0%} kept for CUDA and NCCL"
    return _rows(title, [(k, f"{_size(values[k]):>10}  {why}") for k, why in names.items()])


def _time(made: Estimate) -> list[str]:
    time, what = made.time, "windows" if made.work.histories else "rows"
    rows = [
        ("a step", f"{time.step_seconds:,.2f} s"),
        ("rate", f"{time.tokens_per_second:,.0f} tokens/s, {time.sequences_per_second:,.0f} {what}/s"),
        ("whole run", _duration(time.days)),
    ]
    if made.config.model.hidden_size < NARROW:
        rows.append(("beware", "layers this narrow leave most of a GPU idle: expect far less"))
    return _rows(f"Time at {made.cluster.mfu:.0%} MFU (assumed, --mfu; not measured)", rows)


def _others(others: Fitting, made: Estimate) -> list[str]:
    lines = ["What fits (fewest ranks a model first; batches as in the recipe)"]
    lines.append("  GPUs   TP  PP    DP  recompute      a GPU  whole run")
    for gpus, e in others:
        if e is None:
            lines.append(f"  {gpus:>4}   nothing")
            continue
        sizes = e.layout
        lines.append(
            f"  {gpus:>4}  {sizes.tensor_model_parallel_size:>3} {sizes.pipeline_model_parallel_size:>3} "
            f"{sizes.data_parallel_size:>5}  {'full' if e.config.model.recompute_granularity else 'no':<9} "
            f"{_size(e.memory.total):>10}  {_duration(e.time.days)}"
        )
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _size(value: int) -> str:
    return f"{value / GIB:,.1f} GiB" if value >= GIB / 10 else f"{value / 2**20:,.1f} MiB"


def _duration(days: float) -> str:
    for limit, size, unit in (
        (1 / 1440, 1 / 86_400, "seconds"),
        (1 / 24, 1 / 1440, "minutes"),
        (2, 1 / 24, "hours"),
        (730, 1, "days"),
    ):
        if days < limit:
            return f"{days / size:,.1f} {unit}"
    return f"{days / 365.25:,.1f} years"


def _si(value: float) -> str:
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T")):
        if value >= size:
            return f"{value / size:,.2f} {prefix}"
    return f"{value / 1e9:,.2f} G"
