"""What the engine costs: CPU seconds of a training step on megatron-core against the same model in plain
torch.

    python benchmarks/engine_overhead.py [--steps 60] [--rounds 5]

Equal weights, equal batches, the same attention and activation kernels, one thread, interleaved rounds; also
the slot head against a masked softmax over the whole vocabulary on a table with a 20,000-category column.
Writes benchmarks/results/engine_overhead.md.
"""

import argparse
import statistics
import time

import torch
from results import write_result
from torch.nn import functional

from nemo_tabular.config import ModelConfig, OptimConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.attention import causal_attention
from nemo_tabular.engine.block import ACTIVATIONS
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.gpt import TabularGPT
from nemo_tabular.models.head import SlotLoss, Slots

ADULT_SIZES = [92, 2, 5, 119, 2, 42, 9, 7, 6, 16, 16, 94, 15, 73, 128]
WIDE_SIZES = [2, 5, 16, 42, 128, 20_000]


class PlainBlock(torch.nn.Module):
    """LayerNorm, causal attention, LayerNorm, squared-ReLU MLP: the engine's block, written out."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(hidden), torch.nn.LayerNorm(hidden)
        self.qkv = torch.nn.Linear(hidden, 3 * hidden, bias=False)
        self.proj = torch.nn.Linear(hidden, hidden, bias=False)
        self.fc1 = torch.nn.Linear(hidden, 4 * hidden, bias=False)
        self.fc2 = torch.nn.Linear(4 * hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length, rows, hidden = x.shape
        qkv = self.qkv(self.norm1(x)).view(length, rows, self.heads, 3, hidden // self.heads)
        q, k, v = (part.permute(1, 2, 0, 3) for part in qkv.unbind(3))
        o = causal_attention(q, k, v, (hidden // self.heads) ** -0.5)
        x = x + self.proj(o.permute(2, 0, 1, 3).reshape(length, rows, hidden))
        return x + self.fc2(ACTIVATIONS["squared-relu"](self.fc1(self.norm2(x))))


class PlainGPT(torch.nn.Module):
    """The same GPT without the engine; `engine_model`'s weights are copied in."""

    def __init__(self, engine_model: TabularGPT, layers: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.slots = Slots(engine_model.sizes)
        self.shift = engine_model.shift_S1
        for name in ("embedding", "position", "begin", "bias"):
            value = getattr(engine_model, name).detach()
            rows = getattr(getattr(engine_model, name), "unpadded_rows", len(value))
            setattr(self, name, torch.nn.Parameter(value[:rows].clone()))
        self.blocks = torch.nn.ModuleList(PlainBlock(hidden, heads) for _ in range(layers))
        self.final = torch.nn.LayerNorm(hidden)
        for ours, theirs in zip(self.blocks, engine_model.blocks.layers, strict=True):
            with torch.no_grad():
                ours.qkv.weight.copy_(theirs.self_attention.linear_qkv.weight)
                ours.proj.weight.copy_(theirs.self_attention.linear_proj.weight)
                ours.fc1.weight.copy_(theirs.mlp.linear_fc1.weight)
                ours.fc2.weight.copy_(theirs.mlp.linear_fc2.weight)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        begin = self.begin.expand(1, codes.shape[1], -1)
        values = functional.embedding(codes[:-1] + self.shift[:-1], self.embedding)
        x = torch.cat([begin, values]) + self.position.unsqueeze(1)
        for block in self.blocks:
            x = block(x)
        total, _ = SlotLoss.apply(
            self.embedding, self.bias, self.slots, codes.unbind(0), None, *self.final(x).unbind(0)
        )
        return total


def plain_step(model: PlainGPT, optimizer: torch.optim.Optimizer, codes: torch.Tensor) -> float:
    """What a hand-written loop does: zero, forward, backward, clip, update."""
    optimizer.zero_grad(set_to_none=True)
    loss = model(codes) / codes.shape[1]
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def cpu_ms(run, steps: int) -> float:  # type: ignore[no-untyped-def]
    """CPU milliseconds a step."""
    start = time.process_time()
    for i in range(steps):
        run(i)
    return (time.process_time() - start) / steps * 1e3


def steps_of(layers: int, rows: int, steps: int, rounds: int) -> tuple[float, float, list[float]]:
    """Median CPU ms of an engine step and of a plain step, and the ratio of each round."""
    groups = launch.start(ParallelLayout(), seed=1)
    torch.manual_seed(0)
    recipe = ModelConfig(num_layers=layers)
    engine = TabularGPT(recipe, "32", ADULT_SIZES, groups)
    plain = PlainGPT(engine, layers, recipe.hidden_size, recipe.num_attention_heads)
    train = TrainStep(engine, OptimConfig(), groups)
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    batches = [torch.stack([torch.randint(0, c, (rows,)) for c in ADULT_SIZES]) for _ in range(steps)]
    first = abs(train([batches[0]], 1e-3)[0] - plain_step(plain, optimizer, batches[0]))
    assert first < 1e-4, f"the two models differ: {first}"
    times = [
        (
            cpu_ms(lambda i: train([batches[i]], 1e-3), steps),
            cpu_ms(lambda i: plain_step(plain, optimizer, batches[i]), steps),
        )
        for _ in range(rounds)
    ]
    engine_ms, plain_ms = (statistics.median(t) for t in zip(*times, strict=True))
    return engine_ms, plain_ms, [a / b for a, b in times]


def head_comparison(rows: int, rounds: int) -> tuple[float, float, float]:
    """CPU ms of the slot head, of the masked softmax, and the relative difference of their losses."""
    torch.manual_seed(0)
    hidden = 64
    offsets = [0, *torch.tensor(WIDE_SIZES).cumsum(0).tolist()]
    weight = (torch.randn(offsets[-1], hidden) * 0.1).requires_grad_()
    bias = torch.zeros(offsets[-1], requires_grad=True)
    y = [torch.randn(rows, hidden, requires_grad=True) for _ in WIDE_SIZES]
    targets = [torch.randint(0, c, (rows,)) for c in WIDE_SIZES]
    masks = []
    for s in range(len(WIDE_SIZES)):
        mask = torch.full((1, offsets[-1]), -torch.inf)
        mask[:, offsets[s] : offsets[s + 1]] = 0
        masks.append(mask)

    def slot() -> torch.Tensor:
        return SlotLoss.apply(weight, bias, Slots(WIDE_SIZES), targets, None, *y)[0]

    def masked() -> torch.Tensor:
        losses = [
            functional.cross_entropy(
                functional.linear(y[s], weight, bias) + masks[s], targets[s] + offsets[s], reduction="sum"
            )
            for s in range(len(WIDE_SIZES))
        ]
        return torch.stack(losses).sum()

    difference = float(((slot() - masked()).abs() / masked()).detach())
    times = [
        (cpu_ms(lambda _: slot().backward(), 3), cpu_ms(lambda _: masked().backward(), 3))
        for _ in range(rounds)
    ]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times), difference


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| layers | rows a step | engine, CPU ms | plain torch, CPU ms | ratio: median (min-max) |",
        "|---|---|---|---|---|",
    ]
    for layers, rows in ((1, 128), (2, 128), (2, 512)):
        engine, plain, ratios = steps_of(layers, rows, max(10, options.steps * 128 // rows), options.rounds)
        middle = statistics.median(ratios)
        lines.append(
            f"| {layers} | {rows} | {engine:.2f} | {plain:.2f} | "
            f"{middle:.3f} ({min(ratios):.3f}-{max(ratios):.3f}) |"
        )
        print(lines[-1], flush=True)
    slot, masked, difference = head_comparison(128, options.rounds)
    head = (
        f"Output layer, 128 rows, slots of {WIDE_SIZES} ids, forward and backward: "
        f"slot head {slot:.2f} CPU ms, masked softmax "
        f"over all ids {masked:.2f} CPU ms, ratio {masked / slot:.1f}; "
        f"relative difference of the losses {difference:.1e}."
    )
    print(head)
    write_result("engine_overhead", "Engine overhead", "\n".join(lines) + "\n\n" + head)


if __name__ == "__main__":
    main()
