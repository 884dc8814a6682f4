"""How long a training step of learned rounding takes, compiled and not.

    python bench/training_step.py [--model smollm2-135m] [--device cuda] [--windows 8] [--length 512] [--steps 20]
                                  [--eager | --compare] [--profile] [--recompute] [--backend inductor]

The student is that of the preset w4a8-best in front of its training, without rotations: a head of its own, six kinds of
pairs, 4-bit rounding, ranges (here those of one window), a tenth of the inputs of down with 16 bits, a prefix of two
tokens. Its text is random. Prints one JSON line: seconds of the first step, in which everything is compiled and, on a
GPU, recorded; median milliseconds of the other steps, without the optimizer's; peak memory; losses. --eager: nothing is
compiled. --compare: both, and the largest relative difference of a loss. --profile: the kernels of one step.
--model tiny is a random model, for a rehearsal on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.training import (
    RATES,
    base_model,
    learned_ranges,
    starting_scales,
    trained_linears,
    whole_lines,
)
from mobilequant.models.model import Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.models.sources import resolve
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.captured_step import CapturedStep
from mobilequant.solvers.compiler import Compiler
from mobilequant.solvers.end_to_end import distillation
from mobilequant.solvers.learned.pair_scale import PairScales
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.precision import tensor_float32
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.student import Student

PAIRS = ("norm_to_qkv", "norm_to_mlp", "norm_to_head", "up_to_down", "v_to_o", "q_to_k")
PREFIX = (1, 5)
TINY = {"max_position_embeddings": 2048}
OFFSET_RATE = 2e-3
SHOWN = 25
Step = Callable[[Tensor], Tensor]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parsed(given)
    logging.basicConfig()
    logging.getLogger("mobilequant.solvers.compiler").setLevel(logging.DEBUG)  # all that the compiler says if it fails
    model = tiny_model("llama", **TINY) if arguments.model == "tiny" else resolve(arguments.model)
    state, tokens = prepared(model.to(device=arguments.device), arguments.windows, arguments.length)
    ways = ["eager", "compiled"] if arguments.compare else ["eager"] if arguments.eager else ["compiled"]
    found = {}
    with tensor_float32():
        for way in ways:
            found[way] = measured(state, tokens, compiler_of(way, arguments), arguments)
            gc.collect()
            print(json.dumps({"way": way, **found[way]}), flush=True)
    if arguments.compare:
        pairs = zip(*(found[way]["losses"] for way in ways), strict=True)
        print(json.dumps({"largest_difference": max(abs(one - other) / abs(one) for one, other in pairs)}))


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--eager", action="store_true")
    way.add_argument("--compare", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--backend", default="inductor")
    return parser.parse_args(given)


def prepared(model: Model, windows: int, length: int) -> tuple[QuantizedModel, Tensor]:
    """The model with ranges of one window, and windows (N, T) to train on."""
    arch, generator = model.arch, torch.Generator().manual_seed(0)
    drawn = torch.randint(0, arch.vocab_size, (windows, length), generator=generator)
    tokens = whole_lines(drawn, len(PREFIX)).to(model.device)
    model = model.with_tensors({"lm_head.weight": model.weight(point.LM_HEAD).clone()})
    wide = frozenset(point.at(layer, point.down_input(arch)) for layer in range(arch.num_layers // 10))
    recipe = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    return run_methods(model, Scheme(4, sixteen_bit=wide), recipe, tokens[:1], prefix=PREFIX), tokens


def compiler_of(way: str, arguments: argparse.Namespace) -> Compiler:
    """The one that is asked for, however few steps there are; a training goes by their number."""
    return Compiler(torch.device(arguments.device).type if way == "compiled" else None, arguments.backend)


def measured(
    state: QuantizedModel, tokens: Tensor, compiler: Compiler, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Seconds, milliseconds, bytes and losses of a student."""
    student = student_of(state, compiler, recompute=arguments.recompute)
    leaves = student.parameters(student.parts())
    loss = distillation(student, state.model, state.prefix, hidden_weight=0.1)
    on_gpu = tokens.is_cuda
    step: Step = CapturedStep(loss, list(leaves.values())) if on_gpu else plain_step(loss, list(leaves.values()))
    groups = [{"params": [leaf], "lr": RATES.get(point.role_of(name), OFFSET_RATE)} for name, leaf in leaves.items()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=on_gpu)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times, losses = list[float](), list[float]()
    for _ in range(arguments.steps):
        started = time.perf_counter()
        losses.append(step(tokens).item())  # waits for the GPU
        times.append(time.perf_counter() - started)
        optimizer.step()
    if arguments.profile:
        show_kernels(step, tokens, on_gpu=on_gpu)
    return {
        "functions": compiler.num_functions,
        "first_step_s": round(times[0], 2),
        "step_ms": round(1e3 * statistics.median(times[1:]), 2) if len(times) > 1 else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "losses": losses,
    }


def student_of(state: QuantizedModel, compiler: Compiler, *, recompute: bool) -> Student:
    """As the method mobilequant makes it."""
    base, arch = base_model(state), state.model.arch
    scales = starting_scales(state, trained_linears(state.model), WeightRange())
    weights = RoundedWeights(base, state.scheme, scales, "rounding")
    pairs = PairScales(arch, PAIRS, state.model.device)
    return Student(base, state.prefix, (pairs,), weights, learned_ranges(state), recompute, compiler)


def plain_step(loss: Step, leaves: Sequence[Tensor]) -> Step:
    """A step that nothing is recorded of."""

    def step(tokens: Tensor) -> Tensor:
        for each in leaves:
            each.grad = None
        found = loss(tokens)
        found.backward()
        return found.detach()

    return step


def show_kernels(step: Step, tokens: Tensor, *, on_gpu: bool) -> None:
    """The kernels of one step that take most time together; on a CPU, operations."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profile:
        step(tokens)
        if on_gpu:
            torch.cuda.synchronize()
    which = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = sorted(profile.key_averages(), key=lambda each: getattr(each, which), reverse=True)
    found = [each for each in found if getattr(each, which) > 0]
    total = sum(getattr(each, which) for each in found)
    print(f"{sum(each.count for each in found):8} kernels  {total / 1e3:9.2f} ms")
    for each in found[:SHOWN]:
        print(f"{each.count:8} times    {getattr(each, which) / 1e3:9.2f} ms  {each.key[:140]}")


if __name__ == "__main__":
    main()
