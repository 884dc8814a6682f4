"""How long a run takes and what it needs, from the architecture, the recipe and the speed of this machine.

One forward pass costs two operations per weight and token. A run makes a few passes per method; the estimate is meant
to be right within a factor of two, which is what a person needs to decide whether to wait.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from mobilequant.arch.architecture import Architecture
from mobilequant.jobs.model_size import block_parameters, matrix_sizes, table_parameters
from mobilequant.jobs.training_plan import TrainingCost, training_cost
from mobilequant.jobs.writing_plan import writing_cost
from mobilequant.methods.registry import make_all
from mobilequant.methods.rotate.method import Rotate
from mobilequant.methods.sixteen_bit.method import CHOICE_WINDOWS, SixteenBit, SixteenBitConfig
from mobilequant.pipeline.method import Method
from mobilequant.pipeline.recipe import SELF_GENERATED, Recipe
from mobilequant.pipeline.resource import Plan

# Passes over all calibration windows that a method makes (statistics; for gptq also carrying the blocks on).
# ptf and rotate_keys share the pass of their neighbour.
_PASSES = {"gptq": 3.0, "rtn": 0.0, "ptf": 0.0, "rotate": 0.0, "rotate_keys": 0.0}
_PREFIX_PASSES = 2.0
_SIXTEEN_BIT_PASSES = 2.0
_ISLAND_PASSES = 4.0  # ranges, and about six tries of a quarter of the windows, float and rounded
_OVERHEAD = 1.6  # attention, norms, observers and rounding, which are not matrix products
_FLOAT_BYTES, _DOUBLE_BYTES = 4, 8
_PROGRAM_BYTES = {"cpu": 400_000_000, "cuda": 4_000_000_000}  # on the host; with CUDA its libraries and kernels
_CONTEXT_BYTES = 1_500_000_000  # what CUDA itself takes on the GPU, and gaps between blocks of its memory
# Float models on the host. On a CPU: as loaded, transformed, simulated, codes with lowering, and what the allocator
# keeps. With a GPU: as loaded, as it comes back, and codes with lowering.
_MODEL_COPIES = {"cpu": 5, "cuda": 3}
_BLOCK_COPIES = 4  # of one block that is rewritten: as it was, in float64, and as it becomes
_SOLVER_COPIES = 8  # float64 matrices of the size of a Hessian that GPTQ holds at once


def plan_quantize(arch: Architecture, recipe: Recipe, flops_per_s: float, device: str = "cpu") -> Plan:
    """The estimate for ``quantize``: time, peak memory, work folder and package."""
    table = arch.vocab_size * arch.hidden_size
    stored = _stored(arch, recipe)
    on_gpu = torch.device(device).type == "cuda"
    place = "cuda" if on_gpu else "cpu"
    training = _training(stored, recipe, place)
    blocks, tables = block_parameters(arch), table_parameters(stored)
    passes = sum(_passes(method, arch, recipe.data.count) for method in make_all(recipe))
    passes += _PREFIX_PASSES if recipe.prefix.max_tokens else 0.0
    tokens = recipe.data.window * recipe.data.count
    operations = 2.0 * (blocks + table) * tokens * passes * _OVERHEAD + sum(each.operations for each in training)
    weights = (blocks + tables) * _FLOAT_BYTES
    computing = max([_working_bytes(arch, recipe), *(each.memory_bytes for each in training)])
    return Plan(
        time_s=operations / flops_per_s,
        memory_bytes=_MODEL_COPIES[place] * weights + _PROGRAM_BYTES[place] + (0 if on_gpu else computing),
        work_bytes=_kept_bytes(arch, recipe, blocks + tables) + sum(each.work_bytes for each in training),
        package_bytes=blocks * recipe.base_scheme().weight_bits // 8 + tables + (blocks + tables) // 100,
        # the weights once, the codes twice while trained ones replace them, and what is computed with them
        device_bytes=weights + 2 * (blocks + tables) + computing + _CONTEXT_BYTES if on_gpu else 0,
    )


def _passes(method: Method, arch: Architecture, count: int) -> float:
    """Passes over all ``count`` windows; to try single points is to run half of the blocks on a few of them."""
    if method.inputs == "session" and not isinstance(method, SixteenBit):
        return 0.0  # training has its own account
    if not isinstance(method, SixteenBit):
        return _PASSES.get(method.name, 1.0)
    config: SixteenBitConfig = method.config
    tries = arch.num_layers * len(config.remove) * CHOICE_WINDOWS / count / 2
    return (_SIXTEEN_BIT_PASSES if config.fraction_of_down else 0.0) + (
        tries + _ISLAND_PASSES if config.remove else 0.0
    )


def _training(arch: Architecture, recipe: Recipe, device: str) -> list[TrainingCost]:
    """What each method that trains costs, and what it costs to write what they train on."""
    data, scheme = recipe.training or recipe.data, recipe.base_scheme()
    found = (training_cost(method, arch, scheme, data, device) for method in make_all(recipe))
    written = [writing_cost(arch, data, device)] if data.text == SELF_GENERATED else []
    return [*written, *(cost for cost in found if cost is not None)]


def _stored(arch: Architecture, recipe: Recipe) -> Architecture:
    """The architecture behind the recipe: where it rotates the residual, the head is a matrix of its own."""
    rotated = any(isinstance(method, Rotate) and method.rotates_residual(arch) for method in make_all(recipe))
    return replace(arch, tied_head=False) if rotated else arch


def _kept_bytes(arch: Architecture, recipe: Recipe, parameters: int) -> int:
    """What checkpoints keep of all methods that do not train: a byte per code, the matrices of rotations, and little of
    anything else."""
    rotations = sum(isinstance(method, Rotate) for method in make_all(recipe))
    heads = arch.num_layers * arch.num_kv_heads * arch.head_dim**2
    return parameters + rotations * (arch.hidden_size**2 + heads) * _DOUBLE_BYTES + parameters // 16


def evaluate_time_s(arch: Architecture, tokens: int, flops_per_s: float) -> float:
    """Seconds to score ``tokens`` predictions with all four models; the exact integer one costs as much as four."""
    operations = 2.0 * (block_parameters(arch) + arch.vocab_size * arch.hidden_size) * tokens
    return operations * (3 + 4) * _OVERHEAD / flops_per_s


def evaluate_memory_bytes(arch: Architecture, recipe: Recipe, window: int) -> int:
    """Float, simulated and integer model side by side, and a few times the logits of a window in 64 bits."""
    blocks, stored = block_parameters(arch), _stored(arch, recipe)
    loaded, made = (blocks + table_parameters(each) for each in (arch, stored))
    logits = 5 * window * arch.vocab_size * _DOUBLE_BYTES
    return loaded * _FLOAT_BYTES + made * (2 * _FLOAT_BYTES + 1) + logits + _PROGRAM_BYTES["cpu"]


def _working_bytes(arch: Architecture, recipe: Recipe) -> int:
    """What a pass or a rewrite needs beside the model: logits and scores of a window, the residuals of all windows,
    Hessians of one block with what solves them, and a block in several copies."""
    window, count = recipe.data.window, recipe.data.count
    logits = 3 * window * arch.vocab_size * _FLOAT_BYTES
    scores = 3 * arch.num_heads * window * window * _FLOAT_BYTES
    residuals = window * count * arch.hidden_size * _FLOAT_BYTES
    squares = {columns**2 for _, columns in matrix_sizes(arch).values()}
    hessians = sum(squares) * _FLOAT_BYTES + _SOLVER_COPIES * max(squares) * _DOUBLE_BYTES
    block = _BLOCK_COPIES * block_parameters(arch) // arch.num_layers * _FLOAT_BYTES
    solves = any(method.name == "gptq" for method in make_all(recipe))
    return logits + scores + residuals + max(block, hessians if solves else 0)


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
