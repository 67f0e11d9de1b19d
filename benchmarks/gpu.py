"""What one GPU does: tokens per second, MFU and peak memory of training 125M and 1.3B in bf16, and rows
generated per second.

    python benchmarks/gpu.py [--models 125m 1.3b] [--steps 10]
    python benchmarks/gpu.py --device cpu --smoke      every line of it, on a tiny model; nothing is written

The recipes of conf/ on rows of 32 tokens and 8,192 ids, codes at random, as `nemo-tabular plan` assumes; MFU
as it counts FLOPs. Rows are generated from the untrained weights: their tokens are nearly uniform, so no two
rows share a prefix and each is computed whole, which is the worst case. Writes benchmarks/results/gpu.md.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from results import write_result

from nemo_tabular.config import Config, load_config
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.ranks import device as rank_device
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.generate.trie import RowDecoder, placement
from nemo_tabular.models.gpt import TabularGPT
from nemo_tabular.models.order import RowPlan
from nemo_tabular.models.saved import SavedModel, model_tensors
from nemo_tabular.models.weights import DecoderWeights
from nemo_tabular.plan import Cluster, Workload, assumed, estimate

CONF = Path(__file__).parents[1] / "conf"
SLOTS, VOCAB, MICRO_BATCHES = 32, 8192, 8
PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "B200": 2250}  # TFLOP/s, bf16, dense
SMOKE = [
    "model.num_layers=2",
    "model.hidden_size=64",
    "model.num_attention_heads=4",
    "data.micro_batch_size=8",
]
AIM = 0.5


def peak_teraflops(device: torch.device) -> float | None:
    """Of the card by its name; None where it is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one call, everything that it started on the card included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def forget(device: torch.device) -> None:
    """Free what the last model has left, cycles of references included, and measure peaks anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: torch.device) -> float:
    """Most memory that tensors have had since it was last reset."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")


def recipe(name: str, smoke: bool) -> Config:
    """The recipe with a global batch of a few micro-batches: enough that the optimizer's share is small."""
    settings = SMOKE if smoke else []
    size = load_config(CONF / f"gpt_{name}.yaml", settings).data.micro_batch_size
    assert size is not None
    return load_config(
        CONF / f"gpt_{name}.yaml", [*settings, f"data.global_batch_size={size * MICRO_BATCHES}"]
    )


def train(config: Config, work: Workload, device: torch.device, steps: int) -> tuple[TabularGPT, list[float]]:
    """The model, and seconds of each step after three to warm up."""
    groups = launch.start(ParallelLayout(), seed=1)
    model = TabularGPT(config.model, config.trainer.precision, work.sizes, groups, seed=1).to(device)
    step, size = TrainStep(model, config.optim, groups), config.data.micro_batch_size
    assert size is not None
    generator = torch.Generator().manual_seed(1)

    def batch() -> torch.Tensor:
        return torch.stack([torch.randint(0, n, (size,), generator=generator) for n in work.sizes]).to(device)

    batches = [batch() for _ in range(MICRO_BATCHES)]
    return model, [seconds(lambda: step(batches, 1e-5), device) for _ in range(3 + steps)][3:]


def decoder_weights(config: Config, model: TabularGPT, work: Workload) -> DecoderWeights:
    """What `nemo-tabular generate` would load of this model."""
    plan = RowPlan(("all",), np.arange(work.slots), work.sizes)
    tensors = {name: tensor.cpu() for name, tensor in model_tensors(model).items()}
    tensors |= {name: tensors[name][: work.vocab_size] for name in ("embedding", "bias")}
    saved = SavedModel(config.model, plan, None, tensors, False, 1, {})  # type: ignore[arg-type]
    return saved.weights()


def generate(weights: DecoderWeights, device: torch.device, rows: int) -> tuple[float, str]:
    """Rows per second, once the first rows have been made, and in which arithmetic."""
    dtype = placement(weights.hidden)[0] if device.type == "cuda" else torch.float32
    decoder = RowDecoder(weights, dtype, device=device, backend="torch")
    rows = max(rows, 2 * decoder.tile) if device.type == "cuda" else rows
    decoder.sample(min(rows, decoder.tile), seed=0)
    return rows / seconds(lambda: decoder.sample(rows, seed=1), device), str(dtype).removeprefix("torch.")


def line(name: str, options: argparse.Namespace, device: torch.device) -> str:
    """One model's line of the table."""
    config = recipe(name, options.smoke)
    work = assumed(config, SLOTS, VOCAB)
    peak = options.gpu_tflops or peak_teraflops(device)
    planned = estimate(config, work, Cluster(1, teraflops=peak or 1.0))
    forget(device)
    model, times = train(config, work, device, options.steps)
    middle, train_peak = statistics.median(times), peak_gib(device)
    weights = decoder_weights(config, model, work)
    del model
    forget(device)
    rows, dtype = generate(weights, device, options.rows)
    spread = f"{min(times):.3f}-{max(times):.3f}"
    mfu = f"{planned.step_flops / middle / (peak * 1e12):.1%}" if peak else "peak not known: --gpu-tflops"
    return (
        f"| {name} | {planned.parameters / 1e6:,.0f} M | {planned.batch * work.tokens / middle:,.0f} | "
        f"{mfu} | {spread} | {train_peak:.1f} | {planned.memory.total / 2**30:.1f} | "
        f"{rows:,.0f} ({dtype}) | {peak_gib(device):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["125m", "1.3b"], help="recipes conf/gpt_NAME.yaml")
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--rows", type=int, default=16_384, help="rows to generate, at least")
    parser.add_argument("--gpu-tflops", type=float, help="peak of this GPU in bf16, where it is not known")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--smoke", action="store_true", help="a tiny model, and no result written")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --smoke runs every line of it on a tiny model")
    device = rank_device()
    if device.type != options.device:
        parser.error("there is a CUDA device: hide it (CUDA_VISIBLE_DEVICES=) to try --device cpu")
    head = [
        "| model | parameters | tokens/s | MFU | s a step | GiB training | GiB planned | rows/s made | GiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head), flush=True)
    lines = []
    for name in options.models:
        lines.append(line(name, options, device))
        print(lines[-1], flush=True)
    if options.smoke:
        return
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    note = (
        f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}. bf16 with fp32 main weights, rows of "
        f"{SLOTS} tokens, {VOCAB:,} ids, {MICRO_BATCHES} micro-batches a step, {options.steps} steps. Aim: "
        f"{AIM:.0%} MFU on an H100. Generation from untrained weights: no shared prefixes, the worst case."
    )
    print(write_result("gpu", "One GPU", "\n".join([note, "", *head, *lines])))


if __name__ == "__main__":
    main()
