"""Methods that train, through the pipeline to the integer graph."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from mobilequant.arch.pair import Kind
from mobilequant.errors import DataError, TrainingError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.pipeline.checkpoint import InMemory
from mobilequant.pipeline.result_file import to_bytes
from mobilequant.pipeline.scheme import Scheme
from mobilequant.pipeline.workspace import Workspace

PREFIX = (1, 5)
WINDOWS = torch.randint(0, 96, (6, 8), generator=torch.Generator().manual_seed(4))
SHORT = {"batch": 2, "held_out": 2}
ALL_PAIRS = list(get_args(Kind))
TRAINED = {
    "codes": ("mobilequant", SHORT),
    "nearest": ("mobilequant", {**SHORT, "weights": "nearest"}),
    "rounding and pairs": ("mobilequant", {**SHORT, "weights": "rounding", "pairs": ALL_PAIRS}),
    "faithful": ("mobilequant", {"mode": "faithful", "epochs": 1}),
    "omniquant": ("omniquant", {"epochs": 1}),
    "self-distillation": ("self_distillation", SHORT),
}
STEP = "2-mobilequant"


def recipe(name, options, *, rounded=True):
    first = [make("ranges", {"estimator": "minmax"}), *([make("rtn", {})] if rounded else [])]
    return [*first, make(name, options)]


def run(model, name, options, *, scheme=None, windows=WINDOWS, **others):
    return run_methods(model, scheme or Scheme(8), recipe(name, options), windows, prefix=PREFIX, **others)


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_ends_in_integers_that_follow_the_simulation(family, kind):
    model = tiny_model(family)
    found = provable(run(model, *TRAINED[kind]))
    real = forward(found.simulated(), WINDOWS[:1], tap=found.tap(), prefix=found.simulated_prefix())[0]
    assert (real - Interpreter(lower(found)).logits(WINDOWS[0])).abs().mean() < 0.1 * real.std()
    exact = forward(model, WINDOWS[:1], prefix=compute_prefix(model, PREFIX))[0]
    assert (real - exact).abs().mean() < 0.35 * exact.std()


def held_out_divergence(model, found):
    """Mean KL in nats on windows that no method has seen."""
    windows = torch.randint(0, 96, (24, 12), generator=torch.Generator().manual_seed(77))
    wanted = forward(model, windows, prefix=compute_prefix(model, PREFIX)).log_softmax(-1)
    logits = forward(found.simulated(), windows, tap=found.tap(), prefix=found.simulated_prefix()).log_softmax(-1)
    return (wanted.exp() * (wanted - logits)).sum(-1).mean().item()


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        ("mobilequant", {"weights": "codes"}, 0.95),
        ("mobilequant", {"weights": "nearest", "pairs": ["norm_to_qkv", "up_to_down"]}, 0.95),
        ("mobilequant", {"weights": "rounding"}, 0.85),
        ("self_distillation", {}, 0.85),
    ],
)
def test_training_lowers_the_divergence_on_what_it_has_not_seen(name, options, share):
    model = tiny_model("llama")
    windows = torch.randint(0, 96, (48, 12), generator=torch.Generator().manual_seed(5))
    before = held_out_divergence(model, run_methods(model, Scheme(4), recipe("rtn", {}), windows, prefix=PREFIX))
    options = {"epochs": 6, "batch": 8, "held_out": 8, **options}
    after = held_out_divergence(model, run(model, name, options, scheme=Scheme(4), windows=windows))
    assert after < share * before
