from __future__ import annotations

from typing import get_args

import pytest
import torch

from mobilequant.arch.pair import Kind, scale_pairs
from mobilequant.arch.point import HEAD, part_of
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.model import KVPrefix
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.solvers.learned.pair_scale import LOGARITHM, PLAIN, SMALLEST, PairScales

KINDS = get_args(Kind)
PREFIX = (1, 5)
TOKENS = torch.randint(0, 96, (2, 7), generator=torch.Generator().manual_seed(3))


def parts(arch):
    return [*(f"layers.{layer}" for layer in range(arch.num_layers)), HEAD]


def leaves(pairs, arch):
    return {name: leaf for part in parts(arch) for name, leaf in pairs.parameters(part).items()}


def randomized(model, how=LOGARITHM):
    pairs, generator = PairScales(model.arch, KINDS, model.device, how), torch.Generator().manual_seed(9)
    with torch.no_grad():
        for each in leaves(pairs, model.arch).values():
            each += 0.5 * torch.randn(each.shape, generator=generator)
    return pairs


def folded(model, pairs):
    for part in parts(model.arch):
        model = model.with_tensors(pairs.rewrite(model.tensors, part))
    return model


def cached(prefix, pairs):
    layers = range(len(prefix.keys))
    kept = [pairs.rewrite_cache(prefix.keys[i], prefix.values[i], f"layers.{i}") for i in layers]
    keys, values = zip(*kept, strict=True)
    return KVPrefix(prefix.tokens, keys, values)


@pytest.mark.parametrize("how", [LOGARITHM, PLAIN], ids=["logarithm", "plain"])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_function_stays_and_so_does_the_prefix(family, how):
    model = tiny_model(family).to(dtype=torch.float64)
    pairs, prefix = randomized(model, how), compute_prefix(model, PREFIX)
    with torch.no_grad():
        changed, carried = folded(model, pairs), cached(prefix, pairs)
        found, wanted = forward(changed, TOKENS, prefix=carried), forward(model, TOKENS, prefix=prefix)
        fresh = compute_prefix(changed, PREFIX)
    assert not torch.equal(changed.tensors["layers.0.q.weight"], model.tensors["layers.0.q.weight"])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    for each, other in zip((*carried.keys, *carried.values), (*fresh.keys, *fresh.values), strict=True):
        torch.testing.assert_close(each, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox", "opt"])
def test_gradients_reach_every_leaf(family):
    model = tiny_model(family)
    pairs = randomized(model)
    weighted = sum(
        (tensor * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))).sum()
        for part in parts(model.arch)
        for tensor in pairs.rewrite(model.tensors, part).values()
    )
    weighted.backward()
    for name, leaf in leaves(pairs, model.arch).items():
        assert leaf.grad is not None and (leaf.grad != 0).all(), name


@pytest.mark.parametrize("family", CONFIGS)
def test_every_pair_has_one_leaf_in_its_part_but_a_tied_head(family):
    arch = tiny_model(family).arch
    pairs = PairScales(arch, KINDS, torch.device("cpu"))
    wanted = [pair for pair in scale_pairs(arch) if not pair.tied]
    assert list(leaves(pairs, arch)) == [f"{pair.name}.free_scale" for pair in wanted]
    for part in parts(arch):
        assert {part_of(name) for name in pairs.parameters(part)} <= {part}


def test_only_the_kinds_that_are_asked_for():
    arch = tiny_model("llama").arch
    found = leaves(PairScales(arch, ["up_to_down"], torch.device("cpu")), arch)
    assert list(found) == ["layers.0.up_to_down.free_scale", "layers.1.up_to_down.free_scale"]


@pytest.mark.parametrize("how", [LOGARITHM, PLAIN], ids=["logarithm", "plain"])
def test_scales_start_at_one(how):
    model = tiny_model("llama")
    pairs = PairScales(model.arch, KINDS, model.device, how)
    assert all(torch.equal(each, model.tensors[name]) for name, each in folded(model, pairs).tensors.items())


def test_a_published_scale_is_a_magnitude_and_never_below_a_hundredth():
    found = PLAIN.scale(torch.tensor([-2.0, -0.001, 0.0, 0.009, 0.5]))
    assert torch.equal(found, torch.tensor([2.0, SMALLEST, SMALLEST, SMALLEST, 0.5]))
    assert SMALLEST == 1e-2
