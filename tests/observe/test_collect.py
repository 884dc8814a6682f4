from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.errors import CheckpointError
from mobilequant.models.decoder import block, compute_prefix, forward, head
from mobilequant.models.tiny import tiny_model
from mobilequant.observe import collect as collect_module
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need


def _windows(model, count=3, length=10):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, model.arch.vocab_size, (count, length), generator=generator)


def _values(model, windows, name, prefix=None):
    caught = []

    def tap(at, value):
        if at == name:
            caught.append(value)
        return value

    for window in windows:
        forward(model, window[None], tap=tap, prefix=prefix)
    return torch.cat(caught)


def test_every_kind_equals_its_direct_computation():
    model = tiny_model("llama")
    windows = _windows(model)
    name = point.at(1, "product")
    needs = [Need(kind, name) for kind in ("range", "minmax", "absmax", "token_absmax", "hessian")]
    stats = collect(model, windows, needs)
    values = _values(model, windows, name)
    assert stats[needs[0]].minmax() == (min(values.min().item(), 0.0), max(values.max().item(), 0.0))
    assert int(stats[needs[0]].counts.sum()) == values.numel()
    assert (stats[needs[1]].low, stats[needs[1]].high) == (values.min().item(), values.max().item())
    assert torch.equal(stats[needs[2]], values.abs().amax((0, 1)))
    assert torch.equal(stats[needs[3]], values.abs().amax(-1))
    rows = values.flatten(0, 1)
    assert stats[needs[4]].tokens == len(rows)
    assert torch.allclose(stats[needs[4]].matrix, rows.T @ rows / len(rows), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt2"])
def test_every_point_of_a_family_can_be_observed(family):
    model = tiny_model(family)
    points = list(point.all_points(model.arch))
    stats = collect(model, _windows(model), [Need("range", name) for name in points])
    assert len(stats) == len(points)
    for need, statistic in stats.items():
        assert statistic.low <= statistic.high, need.point


def test_head_channels_are_counted_head_by_head():
    model = tiny_model("llama")
    windows = _windows(model)
    name = point.query_point(model.arch, 0)
    largest = collect(model, windows, [Need("absmax", name)])[Need("absmax", name)]
    assert torch.equal(largest, _values(model, windows, name).abs().amax((0, 2)).flatten())


def test_prefix_tokens_are_excluded_but_their_keys_and_values_are_kept():
    model = tiny_model("llama")
    windows = _windows(model)
    prefix = compute_prefix(model, (1, 5))
    prefix.values[0][:] = 50.0  # a value that no token reaches
    product, value = point.at(0, "product"), point.at(0, "v")
    needs = [Need("token_absmax", product), Need("range", value), Need("minmax", value), Need("absmax", value)]
    stats = collect(model, windows, needs, prefix=prefix)
    assert stats[needs[0]].shape == windows.shape
    assert stats[needs[1]].minmax()[1] == 50.0 and stats[needs[1]].high < 50.0
    assert stats[needs[2]].high == 50.0
    assert (stats[needs[3]] == 50.0).all()


def test_observing_leaves_no_trace_in_the_global_generator():
    model = tiny_model("llama")
    before = torch.random.get_rng_state()
    collect(model, _windows(model), [Need("minmax", point.LOGITS)])
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_pass_ends_behind_the_last_point_that_is_needed(monkeypatch):
    model = tiny_model("llama", num_hidden_layers=4)
    ran = []
    monkeypatch.setattr(
        collect_module, "block", lambda m, layer, *rest, **named: ran.append(layer) or block(m, layer, *rest, **named)
    )
    monkeypatch.setattr(collect_module, "head", lambda *rest, **named: ran.append("head") or head(*rest, **named))
    for name, expected in ((point.EMBED, []), (point.at(1, "product"), [0, 1]), (point.LOGITS, [0, 1, 2, 3, "head"])):
        ran.clear()
        stats = collect(model, _windows(model, count=1), [Need("minmax", name)])
        assert ran == expected
        values = _values(model, _windows(model, count=1), name)
        assert (stats[Need("minmax", name)].low, stats[Need("minmax", name)].high) == (values.min(), values.max())


def test_a_model_that_overflows_is_refused():
    model = tiny_model("llama")
    model.tensors["layers.1.down.weight"].fill_(3e38)
    with pytest.raises(CheckpointError, match="layer 1"):
        collect(model, _windows(model), [Need("minmax", "layers.1.mlp_residual")])
