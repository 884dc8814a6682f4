from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.errors import DataError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.sixteen_bit import method as module
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.pipeline.checkpoint import InMemory
from mobilequant.pipeline.result_file import to_bytes
from mobilequant.pipeline.scheme import SIXTEEN_BIT_ROLES, Scheme
from mobilequant.solvers.divergence import HeldOut

ISLANDS = ("scores", "capped", "o", "down", "attn_post_norm", "mlp_post_norm")
WINDOWS = torch.randint(0, 96, (8, 12), generator=torch.Generator().manual_seed(4))
STEP = "1-sixteen_bit"


def run(model, options, scheme=None, windows=WINDOWS, checkpoint=None):
    recipe = [make("ranges", {"estimator": "minmax"}), make("sixteen_bit", options), make("rtn", {})]
    return run_methods(model, scheme or Scheme(8), recipe, windows, prefix=(1,), checkpoint=checkpoint)


def remembered(model, options, **changes):
    memory = InMemory(frozenset({STEP}))
    return run(model, options, checkpoint=memory, **changes), memory


@pytest.mark.parametrize("family", ["llama", "opt", "gemma2"])
def test_wide_inputs_of_down_are_in_scheme_and_graph(family):
    model = tiny_model(family, num_hidden_layers=4)
    found = run(model, {"fraction_of_down": 0.5})
    wide = found.scheme.sixteen_bit
    assert len(wide) == 2 and {point.role_of(name) for name in wide} == {point.down_input(model.arch)}
    assert found.scheme.eight_bit == frozenset()
    assert wide <= set(lower(provable(found)).sixteen_bit())


def test_rounding_to_nearest_is_the_same_before_and_behind():
    options = {"fraction_of_down": 0.5, "remove": ("o",), "max_kl_increase": 100.0}
    ranges, choice, rtn = make("ranges", {}), make("sixteen_bit", options), make("rtn", {})
    one, other = (
        run_methods(tiny_model("llama"), Scheme(4), methods, WINDOWS, prefix=(1,))
        for methods in ([ranges, choice, rtn], [ranges, rtn, choice])
    )
    assert one.activations == other.activations and one.scheme == other.scheme
    assert all(torch.equal(weight.codes, other.weights[name].codes) for name, weight in one.weights.items())


def test_nothing_is_asked_for_and_nothing_changes():
    model = tiny_model("llama")
    plain = run_methods(model, Scheme(8), [make("ranges", {"estimator": "minmax"}), make("rtn", {})], WINDOWS)
    found = run(model, {"fraction_of_down": 0.0})
    assert found.scheme == plain.scheme
    assert found.activations.keys() == plain.activations.keys()
    assert {q.qtype for name, q in found.activations.items() if name.endswith("product")} == {UINT8}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gemma3_text"])
def test_with_room_every_island_goes_and_the_integers_follow_the_simulation(family):
    found = provable(run(tiny_model(family), {"remove": ISLANDS, "max_kl_increase": 100.0}))
    points = list(point.all_points(found.model.arch))
    assert found.scheme.eight_bit == {name for name in points if point.role_of(name) in ISLANDS}
    assert all(found.scheme.activation_qtype(name) == found.activations[name].qtype for name in points)
    graph = lower(found)
    assert {point.role_of(name) for name in graph.sixteen_bit()} <= SIXTEEN_BIT_ROLES - set(ISLANDS)
    real = forward(found.simulated(), WINDOWS[:1], tap=found.tap(), prefix=found.simulated_prefix())[0]
    assert (real - Interpreter(graph).logits(WINDOWS[0])).abs().mean() < 0.1 * real.std()


def test_removal_keeps_to_its_budget_in_sum_and_in_measure():
    model = tiny_model("gemma2")
    whole, memory = remembered(model, {"fraction_of_down": 0.0, "remove": ISLANDS, "max_kl_increase": 100.0})
    costs = memory.results[STEP, "islands"].measures
    budget = sum(costs.values()) / 4
    found, memory = remembered(model, {"fraction_of_down": 0.0, "remove": ISLANDS, "max_kl_increase": budget})
    measures = memory.results[STEP, "model"].measures
    assert 0 < measures["eight_bit"] == len(found.scheme.eight_bit) < len(whole.scheme.eight_bit)
    assert found.scheme.eight_bit < whole.scheme.eight_bit
    assert sum(costs[name] for name in found.scheme.eight_bit) <= budget
    assert measures["kl_after"] <= measures["kl_before"] + budget
    judge = HeldOut(found, WINDOWS[-2:])
    assert judge.divergence(found) == pytest.approx(measures["kl_after"], rel=1e-4)


def test_what_is_measured_can_only_take_back(monkeypatch):
    model, options = tiny_model("gemma2"), {"remove": ISLANDS, "max_kl_increase": 100.0}
    monkeypatch.setattr(HeldOut, "divergence", lambda self, state: 1e3 * sum(map(is_narrow, state.activations.items())))
    assert run(model, options).scheme.eight_bit == frozenset()


def is_narrow(entry):
    name, qparams = entry
    return point.role_of(name) in ISLANDS and qparams.qtype == UINT8


def test_points_that_the_recipe_names_keep_their_bits():
    named = frozenset({"layers.0.o", "layers.1.up"})
    options = {"fraction_of_down": 0.0, "remove": ("o",), "max_kl_increase": 100.0}
    found = run(tiny_model("llama"), options, Scheme(8, sixteen_bit=named))
    assert found.scheme == Scheme(8, None, named, frozenset({"layers.1.o"}))
    assert found.activations["layers.0.o"].qtype == INT16


def test_a_role_that_the_family_lacks_gives_nothing():
    found = run(tiny_model("llama"), {"remove": ("capped",), "max_kl_increase": 100.0})
    assert found.scheme.eight_bit == frozenset()


@pytest.mark.parametrize("finished", ["widened", "islands"])
def test_a_killed_search_goes_on_from_its_last_part(finished, monkeypatch):
    model, options = tiny_model("llama"), {"fraction_of_down": 0.5, "remove": ("scores", "o"), "max_kl_increase": 0.1}
    _, memory = remembered(model, options)
    whole = dict(memory.results)
    parts = [(STEP, name) for name in ("widened", "islands", "model")]
    assert list(whole) == parts
    for part in parts[[name for _, name in parts].index(finished) + 1 :]:
        del memory.results[part]
    monkeypatch.setattr(module, "choose_sixteen_bit", forbidden)
    if finished == "islands":
        monkeypatch.setattr(module, "rounding_costs", forbidden)
    run(model, options, checkpoint=memory)
    assert {part: to_bytes(each) for part, each in memory.results.items()} == {
        part: to_bytes(each) for part, each in whole.items()
    }


def forbidden(*args, **options):
    raise AssertionError("computed again")


def test_without_ranges_or_windows_it_says_what_is_missing():
    model = tiny_model("llama")
    with pytest.raises(UsageError, match="there are none yet") as caught:
        run_methods(model, Scheme(8), [make("sixteen_bit", {}), make("ranges", {}), make("rtn", {})], WINDOWS)
    assert "behind ranges" in caught.value.remedy
    with pytest.raises(DataError, match="hold out"):
        run(model, {"remove": ("o",)}, windows=WINDOWS[:1])
    run(model, {}, windows=WINDOWS[:1])


@pytest.mark.parametrize("options", [{"remove": ("q",)}, {"fraction_of_down": 1.5}, {"max_kl_increase": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UsageError, match="method 'sixteen_bit'"):
        make("sixteen_bit", options)
