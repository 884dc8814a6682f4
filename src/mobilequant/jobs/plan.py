"""How long a run takes and what it needs, from the architecture, the recipe and the speed of this machine.

One forward pass costs two operations per weight and token. A run makes a few passes per method; the estimate is meant
to be right within a factor of two, which is what a person needs to decide whether to wait.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.methods.registry import make
from mobilequant.methods.rotate.method import Rotate
from mobilequant.methods.sixteen_bit.method import CHOICE_WINDOWS, SixteenBit, SixteenBitConfig
from mobilequant.models.canonical import block_shapes
from mobilequant.pipeline.method import Method
from mobilequant.pipeline.recipe import Recipe
from mobilequant.pipeline.resource import Plan

# Passes over all calibration windows that a method makes (statistics; for gptq also carrying the blocks on).
_PASSES = {"gptq": 3.0, "rtn": 0.0, "ptf": 0.0, "rotate": 0.0}  # ptf shares the pass of its neighbour
_PREFIX_PASSES = 2.0
_SIXTEEN_BIT_PASSES = 2.0
_ISLAND_PASSES = 4.0  # ranges, and about six tries of a quarter of the windows, float and rounded
_OVERHEAD = 1.6  # attention, norms, observers and rounding, which are not matrix products
_FLOAT_BYTES = 4
_PROGRAM_BYTES = 400_000_000
_MODEL_COPIES = 5  # as loaded, transformed, simulated, codes with lowering, and what the allocator keeps


def matrix_sizes(arch: Architecture) -> dict[str, tuple[int, int]]:
    """(O, I) of every weight matrix of one block, by role."""
    shapes = block_shapes(arch)
    return {role: (shapes[role][0], shapes[role][1]) for role in point.linear_roles(arch)}


def block_parameters(arch: Architecture) -> int:
    """Weights of all blocks together."""
    return arch.num_layers * sum(rows * columns for rows, columns in matrix_sizes(arch).values())


def _table_parameters(arch: Architecture) -> int:
    """Weights of embedding and lm_head; a tied head is stored once."""
    return arch.vocab_size * arch.hidden_size * (1 if arch.tied_head else 2)


def plan_quantize(arch: Architecture, recipe: Recipe, flops_per_s: float) -> Plan:
    """The estimate for ``quantize``: time, peak memory, work folder and package."""
    rotated = _residual_rotated(arch, recipe)
    table = arch.vocab_size * arch.hidden_size
    tables = _table_parameters(replace(arch, tied_head=False) if rotated else arch)
    blocks = block_parameters(arch)
    passes = sum(_passes(method, arch, recipe.data.count) for method in _methods(recipe))
    passes += _PREFIX_PASSES if recipe.prefix.max_tokens else 0.0
    tokens = recipe.data.window * recipe.data.count
    operations = 2.0 * (blocks + table) * tokens * passes * _OVERHEAD
    weights = (blocks + tables) * _FLOAT_BYTES
    bits = recipe.base_scheme().weight_bits
    return Plan(
        time_s=operations / flops_per_s,
        memory_bytes=_MODEL_COPIES * weights + _working_bytes(arch, recipe),
        # transformed tensors (all of them by a rotation, and again by what follows it), and one byte per code
        work_bytes=weights * (2 if rotated else 1) + blocks + tables,
        package_bytes=blocks * bits // 8 + tables + (blocks + tables) // 100,
    )


def _passes(method: Method, arch: Architecture, count: int) -> float:
    """Passes over all ``count`` windows; to try single points is to run half of the blocks on a few of them."""
    if not isinstance(method, SixteenBit):
        return _PASSES.get(method.name, 1.0)
    config: SixteenBitConfig = method.config
    tries = arch.num_layers * len(config.remove) * CHOICE_WINDOWS / count / 2
    return (_SIXTEEN_BIT_PASSES if config.fraction_of_down else 0.0) + (
        tries + _ISLAND_PASSES if config.remove else 0.0
    )


def _residual_rotated(arch: Architecture, recipe: Recipe) -> bool:
    """Whether the recipe rotates the residual of this model; its head then is a matrix of its own."""
    return any(isinstance(method, Rotate) and method.rotates_residual(arch) for method in _methods(recipe))


def _methods(recipe: Recipe) -> list[Method]:
    return [make(entry.name, entry.options) for entry in recipe.methods]


def evaluate_time_s(arch: Architecture, tokens: int, flops_per_s: float) -> float:
    """Seconds to score ``tokens`` predictions with all four models; the exact integer one costs as much as four."""
    operations = 2.0 * (block_parameters(arch) + arch.vocab_size * arch.hidden_size) * tokens
    return operations * (3 + 4) * _OVERHEAD / flops_per_s


def evaluate_memory_bytes(arch: Architecture, window: int) -> int:
    """Float, simulated and integer model side by side, and a few times the logits of a window in 64 bits."""
    weights = block_parameters(arch) + _table_parameters(arch)
    logits = 5 * window * arch.vocab_size * 2 * _FLOAT_BYTES
    return weights * (3 * _FLOAT_BYTES + 1) + logits + _PROGRAM_BYTES


def _working_bytes(arch: Architecture, recipe: Recipe) -> int:
    """Logits and scores of a window, the residuals of all windows, Hessians of one block, and the program itself."""
    window, count = recipe.data.window, recipe.data.count
    logits = 3 * window * arch.vocab_size * _FLOAT_BYTES
    scores = 3 * arch.num_heads * window * window * _FLOAT_BYTES
    residuals = window * count * arch.hidden_size * _FLOAT_BYTES
    hessians = sum({columns**2 for _, columns in matrix_sizes(arch).values()}) * 4 * _FLOAT_BYTES
    return logits + scores + residuals + hessians + _PROGRAM_BYTES


def measured_flops_per_s(device: str = "cpu") -> float:
    """Floating-point operations per second of a matrix product here: the best of a tenth of a second of tries.

    The best, because a process that runs beside this one can slow any single try by a factor of ten.
    """
    size = 512
    matrix = torch.ones(size, size, device=device)
    matrix @ matrix
    best, end = float("inf"), time.perf_counter() + 0.1
    while (start := time.perf_counter()) < end:
        (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
