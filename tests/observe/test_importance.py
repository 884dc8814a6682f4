from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import UINT8
from mobilequant.observe.collect import collect
from mobilequant.observe.importance import channel_importance, readers
from mobilequant.observe.range import RangeCollector
from mobilequant.pipeline.method import Need


def test_readers_of_every_kind_of_point():
    arch = tiny_model("llama").arch
    assert readers(arch, "layers.1.attn_norm") == ("layers.1.q", "layers.1.k", "layers.1.v")
    assert readers(arch, "layers.1.mlp_norm") == ("layers.1.gate", "layers.1.up")
    assert readers(arch, "layers.1.product") == readers(arch, "layers.1.up") == ("layers.1.down",)
    assert readers(arch, "layers.1.context") == readers(arch, "layers.1.v") == ("layers.1.o",)
    assert readers(arch, "final_norm") == ("lm_head",)
    assert readers(arch, "layers.1.gate") == readers(arch, "embed") == readers(arch, "layers.1.scores") == ()


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2", "gpt_neox"])
def test_importance_has_one_number_per_channel_and_mean_one(family):
    model = tiny_model(family)
    points = list(point.all_points(model.arch))
    for name in points:
        importance = channel_importance(model, name)
        assert importance.mean().item() == pytest.approx(1.0)
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    assert len(collect(model, tokens, [Need("weighted_range", name) for name in points])) == len(points)


def test_columns_that_nobody_reads_do_not_count():
    values = torch.randn(1, 2000, 2, generator=torch.Generator().manual_seed(0))
    values[..., 1] *= 100.0
    collector = RangeCollector(torch.tensor([2.0, 0.0], dtype=torch.float64))
    collector.see(values)
    statistic = collector.result()
    assert statistic.high > 100
    assert statistic.optimal(UINT8, 2.0, symmetric=False)[1] < 6


def test_folding_a_scale_moves_the_optimum_with_the_values_that_matter():
    """x/s read by W·s: weighing by columns must not lose in the output's error."""
    generator = torch.Generator().manual_seed(1)
    scale = torch.logspace(-1, 1, 32)
    values = torch.randn(1, 4000, 32, generator=generator) * scale.flip(0)
    columns = scale.square().double() * 32 / scale.square().sum()
    errors = {}
    for weighted in (False, True):
        collector = RangeCollector(columns if weighted else None)
        collector.see(values)
        low, high = collector.result().optimal(UINT8, 2.0, symmetric=False)
        step = (high - low) / 255
        rounded = torch.round(values / step).clamp(round(low / step), round(high / step)) * step
        errors[weighted] = ((rounded - values).square() * columns).mean().item()
    assert errors[True] <= errors[False] * 1.001
