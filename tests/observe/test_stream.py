from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.errors import ResourceError
from mobilequant.models.decoder import compute_prefix, untouched
from mobilequant.models.tiny import tiny_model
from mobilequant.observe import collect as collect_file
from mobilequant.observe import stream
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need


def test_block_by_block_equals_one_pass_when_nothing_is_quantized():
    model = tiny_model("llama")
    windows = torch.randint(0, 96, (3, 9), generator=torch.Generator().manual_seed(0))
    prefix = compute_prefix(model, (1,))
    needs = [Need("hessian", point.input_of(model.arch, name)) for name in model.linears()]
    whole = collect(model, windows, needs, prefix=prefix)
    residuals = stream.enter(model, windows, tap=untouched, start=1)
    streamed = {}
    for layer in range(model.arch.num_layers):
        streamed |= stream.observe_block(model, layer, residuals, needs, tap=untouched, prefix=prefix)
        residuals = stream.advance(model, layer, residuals, tap=untouched, prefix=prefix)
    streamed |= stream.observe_head(model, residuals, needs, tap=untouched)
    assert streamed.keys() == whole.keys()
    for need, statistic in whole.items():
        assert torch.equal(statistic.matrix, streamed[need].matrix), need.point


def test_statistics_are_taken_behind_the_tap():
    model = tiny_model("llama")
    residuals = stream.enter(model, torch.zeros(1, 4, dtype=torch.int64), tap=untouched)
    need = Need("minmax", point.at(0, "attn_norm"))
    stats = stream.observe_block(
        model, 0, residuals, [need], tap=lambda name, value: torch.full_like(value, 3.0), prefix=None
    )
    assert (stats[need].low, stats[need].high) == (3.0, 3.0)


@pytest.mark.parametrize("led", ["pass", "block by block"])
def test_too_little_memory_on_a_gpu_names_the_block_and_the_knob(led, monkeypatch):
    model, need = tiny_model("llama"), Need("absmax", "layers.1.down")
    windows = torch.zeros(1, 4, dtype=torch.long)

    def full(model, layer, hidden, **options):
        if layer == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden

    monkeypatch.setattr(collect_file, "block", full)
    monkeypatch.setattr(stream.decoder, "block", full)
    with pytest.raises(ResourceError, match=r"layers\.1") as caught:
        if led == "pass":
            collect_file.collect(model, windows, [need], task="ranges")
        else:
            residuals = stream.enter(model, windows, tap=untouched)
            stream.observe_block(model, 1, residuals, [need], tap=untouched, prefix=None)
    assert "data.window" in caught.value.remedy
