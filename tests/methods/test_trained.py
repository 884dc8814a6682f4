"""Methods that train, through the pipeline to the integer graph."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from interruption import DyingWorkspace, KilledError, saved
from mobilequant.arch import point
from mobilequant.arch.pair import Kind
from mobilequant.errors import DataError, TrainingError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.training import TrainingConfig, whole_lines
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.pipeline.checkpoint import InMemory
from mobilequant.pipeline.method import Result
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
    "fixed, tuned prefix": ("mobilequant", {**SHORT, "weights": "fixed", "prefix": True}),
    "faithful": ("mobilequant", {"mode": "faithful", "epochs": 1}),
    "omniquant": ("omniquant", {"epochs": 1}),
    "signround": ("signround", {"batch": 2}),
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
    found = provable(run(model, *TRAINED[kind], windows=WINDOWS[:4, :6]))
    tokens = WINDOWS[:1, :4]
    real = forward(found.simulated(), tokens, tap=found.tap(), prefix=found.simulated_prefix())[0]
    assert (real - Interpreter(lower(found)).logits(tokens[0])).abs().mean() < 0.1 * real.std()
    exact = forward(model, tokens, prefix=compute_prefix(model, PREFIX))[0]
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
        ("mobilequant", {"weights": "codes", "epochs": 3}, 0.95),
        ("mobilequant", {"weights": "rounding", "weight_rate": 3.0, "epochs": 4}, 0.85),
        ("self_distillation", {"epochs": 5, "rate": 1.0}, 0.93),
    ],
)
def test_training_lowers_the_divergence_on_what_it_has_not_seen(name, options, share):
    model = tiny_model("llama")
    windows = torch.randint(0, 96, (96, 12), generator=torch.Generator().manual_seed(5))
    before = held_out_divergence(model, run_methods(model, Scheme(4), recipe("rtn", {}), windows, prefix=PREFIX))
    options = {"batch": 8, "held_out": 16, "rate": 3.0, **options}
    after = held_out_divergence(model, run(model, name, options, scheme=Scheme(4), windows=windows))
    assert after < share * before


def test_rounding_goes_on_from_gptq():
    """With rates of next to nothing its codes stay, those that are no neighbours of their weights among them."""
    steps = [make("ranges", {"estimator": "minmax"}), make("gptq", {})]
    slow = {**SHORT, "weights": "rounding", "rate": 1e-6, "weight_rate": 1e-6}
    model = tiny_model("llama")
    before, after = (
        run_methods(model, Scheme(4), [*steps, *more], WINDOWS, prefix=PREFIX).weights
        for more in ([], [make("mobilequant", slow)])
    )
    far = 0
    for name in point.all_linears(model.arch):
        assert torch.equal(after[name].codes, before[name].codes)
        far += ((before[name].codes - model.weight(name) / before[name].element_scale()).abs() > 1).sum()
    assert far > 100


def test_training_behind_gptq_leaves_the_function_of_the_float_model():
    """The weights that rounding starts from are moved, those that later methods take for the truth are not."""
    model, windows = tiny_model("llama"), WINDOWS.repeat(4, 1)
    options = {**SHORT, "weights": "rounding", "pairs": ALL_PAIRS, "epochs": 2}
    steps = [make("ranges", {"estimator": "minmax"}), make("gptq", {}), make("mobilequant", options)]
    found = run_methods(model, Scheme(4), steps, windows, prefix=PREFIX).model
    assert not torch.equal(found.weight("layers.0.up"), model.weight("layers.0.up"))  # folded
    before, after = (forward(each, WINDOWS, prefix=compute_prefix(each, PREFIX)) for each in (model, found))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_weights_have_a_rate_of_their_own():
    plain, quick = (TrainingConfig(**rates).schedule(256).rates for rates in ({}, {"rate": 3.0, "weight_rate": 2.0}))
    factors = {kind: quick[kind].first / rate.first for kind, rate in plain.items()}
    assert factors == {kind: pytest.approx(2.0 if kind == "offset" else 3.0) for kind in plain}


def killed_memory(model, name, options, lives, folder):
    """A workspace in which a run died behind ``lives`` saves."""

    with pytest.raises(KilledError):
        run(model, name, options, checkpoint=DyingWorkspace(folder, lives))
    return Workspace(folder)


@pytest.mark.parametrize(
    "kind", ["codes", "rounding and pairs", "fixed, tuned prefix", "faithful", "signround", "self-distillation"]
)
def test_a_killed_training_resumes_to_the_same_bytes(kind, tmp_path):
    model, (name, options) = tiny_model("llama"), TRAINED[kind]
    options = {**options, "epochs": 2}
    whole = Workspace(tmp_path / "whole")
    run(model, name, options, checkpoint=whole)
    before_training = len([path for path in saved(whole) if not path.startswith("2-")])
    for lives in (before_training, before_training + 3):
        again = killed_memory(model, name, options, lives, tmp_path / str(lives))
        run(model, name, options, checkpoint=again)
        assert saved(again) == saved(whole)


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    model = tiny_model("llama")
    first = run(model, *TRAINED["codes"], checkpoint=workspace)
    monkeypatch.setattr("mobilequant.solvers.end_to_end.train", None)
    again = run(model, *TRAINED["codes"], checkpoint=workspace)
    assert first.activations == again.activations
    assert all(torch.equal(weight.scale, again.weights[name].scale) for name, weight in first.weights.items())


def test_the_seed_decides_and_the_training_windows_do():
    def trained(**others):
        memory = InMemory(frozenset({STEP}))
        options = {"weights": "rounding", "epochs": 6, **SHORT}
        run(tiny_model("llama"), "mobilequant", options, checkpoint=memory, **others)
        result = memory.results[STEP, "model"]
        assert result.measures["kl_after"] < result.measures["kl_before"]  # else the start is what all end with
        return to_bytes(result)

    other = torch.randint(0, 96, (6, 8), generator=torch.Generator().manual_seed(40))
    assert trained(seed=1) == trained(seed=1, training=WINDOWS)
    assert len({trained(seed=1), trained(seed=2), trained(seed=1, training=other)}) == 3


def test_divergences_before_and_after_are_told():
    memory = InMemory(frozenset({STEP}))
    run(tiny_model("llama"), *TRAINED["codes"], scheme=Scheme(4), checkpoint=memory)
    measures = memory.results[STEP, "model"].measures
    assert 0 < measures["kl_after"] <= measures["kl_before"]


@pytest.mark.parametrize("name", ["mobilequant", "self_distillation"])
def test_too_few_windows_are_refused_with_the_number_needed(name):
    with pytest.raises(DataError, match=f"{name}.* needs at least 8 training windows, 3 of them held out, and has 6"):
        run(tiny_model("llama"), name, {"batch": 5, "held_out": 3})
    run(tiny_model("llama"), name, {"batch": 3, "held_out": 3})


@pytest.mark.parametrize(("name", "options"), [TRAINED["codes"], TRAINED["self-distillation"]])
def test_codes_must_be_there(name, options):
    with pytest.raises(UsageError, match=r"starts from codes, and layers\.0\.q has none") as caught:
        run_methods(tiny_model("llama"), Scheme(8), recipe(name, options, rounded=False), WINDOWS)
    assert "gptq or rtn" in caught.value.remedy


@pytest.mark.parametrize("kind", TRAINED)
def test_ranges_must_be_there(kind):
    with pytest.raises(UsageError, match="needs ranges, and there are none yet"):
        run_methods(tiny_model("llama"), Scheme(8), [make("rtn", {}), make(*TRAINED[kind])], WINDOWS)


@pytest.mark.parametrize("kind", ["nearest", "rounding and pairs", "faithful", "omniquant", "signround"])
def test_codes_need_not_be_there(kind):
    found = run_methods(tiny_model("qwen2"), Scheme(8), recipe(*TRAINED[kind], rounded=False), WINDOWS, prefix=PREFIX)
    assert found.weights["lm_head"] is found.weights["embed"]
    lower(provable(found))


def test_groups_are_trained_as_groups():
    found = run(tiny_model("llama"), *TRAINED["rounding and pairs"], scheme=Scheme(4, group_size=16))
    assert found.weights["layers.0.down"].group_size == 16
    lower(provable(found))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "faithful", "weights": "nearest"},
        {"mode": "faithful", "rate": 2.0},
        {"pairs": ["up_to_down"]},
        {"pairs": ["up_to_dwon"], "weights": "nearest"},
        {"weights": "nearest", "weight_rate": 2.0},
        {"rate": 0.0},
        {"batch": 0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UsageError, match="method 'mobilequant'"):
        make("mobilequant", options)


@pytest.mark.parametrize(("name", "where"), [("mobilequant", "end to end"), ("omniquant", "layers.0")])
def test_a_loss_that_is_no_number_names_unit_and_tensor(name, where):
    options = {"epochs": 1} if name == "omniquant" else {"weights": "nearest", **SHORT}
    model = tiny_model("llama")
    ranges = run_methods(model, Scheme(8), recipe("rtn", {}), WINDOWS).activations
    broken = model.with_tensors({"layers.0.up.weight": torch.full((80, 48), torch.inf)})

    class Given:
        """Ranges from another model, so that only training meets what is broken."""

        name, unit, inputs, changes, rounds = "given", "model", "float", frozenset(), False
        config = None

        def needs(self, arch, scheme):
            return ()

        def apply(self, unit, stats, scheme, rng):
            return Result(activations=ranges)

    with pytest.raises(TrainingError, match=f"^{where}: .*not finite is layers.0.up"):
        run_methods(broken, Scheme(8), [Given(), make(name, options)], WINDOWS)


def test_nothing_stands_behind_self_distillation():
    methods = [*recipe("self_distillation", SHORT), make("mobilequant", SHORT)]
    with pytest.raises(UsageError, match="'mobilequant' stands behind 'self_distillation'"):
        run_methods(tiny_model("llama"), Scheme(8), methods, WINDOWS)


@pytest.mark.parametrize(("length", "prefix", "kept"), [(512, 2, 510), (511, 2, 510), (512, 0, 512), (12, 2, 12)])
def test_training_windows_fill_whole_lines_with_the_prefix(length, prefix, kept):
    windows = torch.arange(2 * length).view(2, length)
    found = whole_lines(windows, prefix)
    assert torch.equal(found, windows[:, :kept])
