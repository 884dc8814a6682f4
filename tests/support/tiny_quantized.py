"""Tiny models of every family, quantized by the real methods and lowered, each made once in a process."""

from dataclasses import replace
from functools import cache

import torch

from mobilequant.arch import point, registry
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import parse_scheme

FAMILIES = [spec.model_types[0] for spec in registry.SPECS]
# What no family of models.tiny shows: config entries and architecture entries that differ from the family's.
VARIANTS = {
    "one norm for both branches": ("gpt_neox", {}, {"shared_block_norm": True}),
    "one key head, gated relu": ("llama", {"num_key_value_heads": 1}, {"activation": "relu"}),
    "norm with a large epsilon": ("llama", {}, {"norm_eps": 0.05}),
    "window, gated gelu": ("mistral", {"sliding_window": 3}, {"activation": "gelu"}),
}
RECIPE = {"ptf": {}, "smoothquant": {}, "ranges": {"estimator": "minmax"}, "rtn": {}}


def windows():
    return torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))


@cache
def quantized(name, scheme="static_w8c_a8_kv8", *, prefix=(1, 5), ptf=True, wide=(), narrow=()):
    """(family or variant, scheme name, *, prefix, ptf, wide roles, narrow roles) → QuantizedModel."""
    model_type, config, arch = VARIANTS.get(name, (name, {}, {}))
    model = tiny_model(model_type, **config)
    model = replace(model, arch=replace(model.arch, **arch))
    points = list(point.all_points(model.arch))
    wide, narrow = (frozenset(each for each in points if point.role_of(each) in roles) for roles in (wide, narrow))
    formats = replace(parse_scheme(scheme), sixteen_bit=wide, eight_bit=narrow)
    methods = [make(method, options) for method, options in RECIPE.items() if ptf or method != "ptf"]
    return provable(run_methods(model, formats, methods, windows(), prefix=prefix))


@cache
def lowered(*args, **kwargs):
    """The same as an IntegerGraph."""
    return lower(quantized(*args, **kwargs))
