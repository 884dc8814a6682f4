"""Students of tiny models whose leaves are no longer where they start."""

from __future__ import annotations

from functools import cache
from typing import get_args

import torch

from mobilequant.arch.pair import Kind
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.training import base_model, learned_ranges, starting_scales, trained_linears
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.fixed_codes import FixedCodes
from mobilequant.solvers.learned.pair_scale import PairScales
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.student import Student

WINDOWS = torch.randint(0, 96, (2, 10), generator=torch.Generator().manual_seed(8))
PREFIX = (1, 5)


@cache
def quantized(family):
    recipe = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    return run_methods(tiny_model(family), Scheme(4), recipe, WINDOWS, prefix=PREFIX)


def student_of(family, mode, recompute=False):
    """A student whose leaves have moved by some."""
    state = quantized(family)
    linears = trained_linears(state.model)
    if mode == "codes":
        transforms, weights = (), FixedCodes({name: state.weights[name] for name in linears})
    else:
        transforms = (PairScales(state.model.arch, get_args(Kind), state.model.device),)
        scales = starting_scales(state, linears, WeightRange())
        weights = RoundedWeights(state.model, state.scheme, scales, "none" if mode == "nearest" else mode)
    made = Student(base_model(state), state.prefix, transforms, weights, learned_ranges(state), recompute)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for leaf in made.parameters(made.parts()).values():
            leaf += 0.03 * torch.randn(leaf.shape, generator=generator)
    return made
