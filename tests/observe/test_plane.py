import math

import torch

from mobilequant.arch import point
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.observe.collect import collect
from mobilequant.observe.plane import DIRECTIONS, PlaneReachCollector
from mobilequant.pipeline.method import Need

WINDOWS = torch.randint(0, 96, (3, 10), generator=torch.Generator().manual_seed(7))


def test_it_equals_the_direct_computation_in_front_of_rope_and_behind_it():
    model = tiny_model("stablelm")  # turns a part of each head only
    arch, prefix = model.arch, compute_prefix(model, (1, 5))
    planes = arch.layers[1].rope.rotary_dim // 2
    caught = {}
    forward(model, WINDOWS, prefix=prefix, tap=lambda name, value: caught.setdefault(name, value))
    for role in ("q", "k", "q_rope", "k_rope"):
        name = point.at(1, role)
        need = Need("plane_reach", name)
        found = collect(model, WINDOWS, [need], prefix=prefix)[need]
        value = caught[name]
        heads = value if value.dim() == 4 else value.unflatten(-1, (-1, arch.head_dim)).transpose(1, 2)
        seen = heads.transpose(0, 1).flatten(1, 2)
        if role == "k_rope":
            seen = torch.cat((seen, prefix.keys[1]), dim=1)
        angles = torch.arange(DIRECTIONS) * math.pi / DIRECTIONS
        along = seen[..., :planes, None] * angles.cos() + seen[..., planes : 2 * planes, None] * angles.sin()
        torch.testing.assert_close(found, along.abs().amax(dim=1))


def test_parts_that_processes_have_seen_make_the_whole():
    values = torch.randn(4, 6, 24, generator=torch.Generator().manual_seed(1))
    whole, first, second = (PlaneReachCollector(12, 3) for _ in range(3))
    whole.see(values)
    first.see(values[:1])
    second.see(values[1:])
    first.merge(second)
    first.merge(PlaneReachCollector(12, 3))
    assert torch.equal(first.result(), whole.result()) and first.result().shape == (2, 3, DIRECTIONS)
