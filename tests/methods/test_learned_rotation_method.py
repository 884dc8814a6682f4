"""Rotations that are learned, through the pipeline to the integer graph."""

import pytest
import torch

from interruption import DyingWorkspace, KilledError, saved
from mobilequant.arch import registry
from mobilequant.errors import DataError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.checkpoint import InMemory
from mobilequant.pipeline.scheme import Scheme
from mobilequant.pipeline.workspace import Workspace

PREFIX = (1, 5)
STEP = "1-learned_rotation"
WINDOWS = torch.randint(0, 96, (6, 8), generator=torch.Generator().manual_seed(4))
SHORT = {"batch": 2, "held_out": 2, "rate": 3.0}
POST_NORMS = ("gemma2", "gemma3_text")
BEHIND = (("ptf", {}), ("smoothquant", {}), ("ranges", {"estimator": "minmax"}), ("rtn", {}))


def run(model, options=SHORT, *, bits=8, windows=WINDOWS, start=("rotate", {}), behind=BEHIND, **others):
    methods = [make(*start), make("learned_rotation", dict(options)), *(make(*each) for each in behind)]
    return run_methods(model, Scheme(bits), methods, windows, prefix=PREFIX, **others)


@pytest.mark.parametrize("family", registry.model_types())
def test_the_function_is_unchanged_and_integers_follow(family):
    model = tiny_model(family)
    found = provable(run(model, {**SHORT, "epochs": 2}))
    exact = forward(model, WINDOWS, prefix=compute_prefix(model, PREFIX))
    changed = forward(found.model, WINDOWS, prefix=found.prefix)
    assert ((changed - exact).abs().max() / exact.abs().max()).item() < 1e-4
    tokens = WINDOWS[:1, :4]
    real = forward(found.simulated(), tokens, tap=found.tap(), prefix=found.simulated_prefix())[0]
    graph = lower(found)
    assert graph.float_ops() == []
    assert (real - Interpreter(graph).logits(tokens[0])).abs().mean() < 0.1 * real.std()


def moved(family, options):
    """Kinds of rewrites that the method leaves."""
    memory = InMemory(frozenset({STEP}))
    run(tiny_model(family), {**SHORT, **options, "epochs": 4}, bits=4, checkpoint=memory)
    result = memory.results[STEP, "model"]
    assert not result.tensors
    assert not result.rewrites or result.measures["kl_after"] <= result.measures["kl_before"]
    return {each.kind for each in result.rewrites}


def test_post_norms_learn_the_values_alone(caplog):
    assert moved("gemma2", {}) == {"rotate_values"}
    assert "the residual is not rotated" in caplog.text
    assert moved("gemma2", {"heads": False}) == set()


def test_only_what_is_asked_for_is_learned():
    assert moved("llama", {"residual": False}) == {"rotate_values"}
    assert moved("llama", {"heads": False}) == {"rotate_residual"}
    assert moved("llama", {}) == {"rotate_residual", "rotate_values"}
    assert moved("llama", {"residual": False, "heads": False, "keys": True}) == {"rotate_keys"}


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_where_queries_and_keys_cannot_be_turned_nothing_is(family):
    assert moved(family, {"residual": False, "heads": False, "keys": True}) == set()


def test_keys_with_one_huge_dimension_learn_to_lie_along_the_diagonal():
    """As the biases of Qwen make them: shared by two dimensions, 40 is 28 in each, and every step finer by that."""
    model = tiny_model("qwen2")
    bias = model.bias("layers.0.k").clone()
    bias.view(2, 12)[:, 5] = 40.0
    model = model.with_tensors({"layers.0.k.bias": bias})
    windows = torch.randint(0, 96, (112, 12), generator=torch.Generator().manual_seed(4))
    memory = InMemory(frozenset({"0-learned_rotation"}))
    options = {"residual": False, "heads": False, "keys": True, "rate": 5.0, "epochs": 5}
    methods = [make("learned_rotation", options), make("ranges", {}), make("rtn", {})]
    run_methods(model, Scheme(8), methods, windows, prefix=PREFIX, checkpoint=memory)
    result = memory.results["0-learned_rotation", "model"]
    assert result.measures["kl_after"] < 0.85 * result.measures["kl_before"]
    angles = next(each.factor for each in result.rewrites if each.where == "layers.0")
    assert ((angles[:, 5] % (torch.pi / 2) - torch.pi / 4).abs() < 0.3).all()


def divergence(model, found):
    """Mean KL in nats on windows that no method has seen."""
    windows = torch.randint(0, 96, (24, 12), generator=torch.Generator().manual_seed(77))
    wanted = forward(model, windows, prefix=compute_prefix(model, PREFIX)).log_softmax(-1)
    logits = forward(found.simulated(), windows, tap=found.tap(), prefix=found.simulated_prefix()).log_softmax(-1)
    return (wanted.exp() * (wanted - logits)).sum(-1).mean().item()


def test_learned_rotations_lose_less_than_random_ones():
    """On windows that it has not seen, once all is rounded to nearest as it would be without it."""
    model, start = tiny_model("llama"), ("rotate", {"residual": "orthogonal", "heads": "orthogonal"})
    windows = torch.randint(0, 96, (112, 12), generator=torch.Generator().manual_seed(5))
    behind = (("ranges", {}), ("rtn", {}))
    methods = [make(*start), *(make(*each) for each in behind)]
    before = run_methods(model, Scheme(4), methods, windows, prefix=PREFIX)
    memory = InMemory(frozenset({STEP}))
    options = {"epochs": 5, "rate": 3.0}
    after = run(model, options, bits=4, windows=windows, start=start, behind=behind, checkpoint=memory)
    measures = memory.results[STEP, "model"].measures
    assert measures["kl_after"] < 0.85 * measures["kl_before"]
    assert divergence(model, after) < 0.9 * divergence(model, before)


@pytest.mark.parametrize("lives", [1, 4])
def test_a_killed_training_resumes_to_the_same_bytes(lives, tmp_path):
    whole, model = Workspace(tmp_path / "whole"), tiny_model("llama")
    run(model, {**SHORT, "epochs": 3}, checkpoint=whole)
    with pytest.raises(KilledError):
        run(model, {**SHORT, "epochs": 3}, checkpoint=DyingWorkspace(tmp_path / "half", lives))
    again = Workspace(tmp_path / "half")
    run(model, {**SHORT, "epochs": 3}, checkpoint=again)
    assert saved(again) == saved(whole)


def test_gains_and_units_of_channels_are_refused():
    for start in (("center", {}), ("rotate", {"residual": "none"})):
        with pytest.raises(UsageError, match=r"'learned_rotation': .*has gains") as caught:
            run(tiny_model("llama"), start=start)
        assert "Put rotate before" in caught.value.remedy
    with pytest.raises(UsageError, match="LayerNorm does not stand a rotation"):
        run(tiny_model("gpt2"), start=("center", {}))
    run(tiny_model("llama"), {**SHORT, "residual": False}, start=("center", {}))


def test_ranges_and_codes_must_come_behind():
    for early in ("ranges", "rtn"):
        methods = [make("rotate", {}), make(early, {}), make("learned_rotation", SHORT)]
        with pytest.raises(UsageError, match="has ranges or codes already"):
            run_methods(tiny_model("llama"), Scheme(8), methods, WINDOWS)


def test_too_few_windows_and_nothing_to_learn_are_refused():
    with pytest.raises(DataError, match=r"learned_rotation.* needs at least 24 training windows"):
        run(tiny_model("llama"), {})
    with pytest.raises(UsageError, match="all false"):
        make("learned_rotation", {"residual": False, "heads": False})
