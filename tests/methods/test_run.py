from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from interruption import KilledError
from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.methods import run
from mobilequant.methods.registry import METHODS, make
from mobilequant.methods.run import run_methods
from mobilequant.methods.state import Workpiece
from mobilequant.methods.unit import all_units, unit_generator
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.quantized import QuantizedModel
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT8
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.result_file import to_bytes
from mobilequant.pipeline.scheme import Scheme

RECIPE = ("smoothquant", "ranges", "gptq")
FAST = {
    "ranges": {"estimator": "minmax"},
    "sixteen_bit": {"fraction_of_down": 0.5, "remove": ("scores", "o"), "max_kl_increase": 0.1},
}
BEHIND_RANGES = ("sixteen_bit",)
TRAINED = ("omniquant", "signround", "mobilequant", "self_distillation")  # they round, and fold and move ranges with it


class Memory:
    """A checkpoint in a dict that dies after ``lives`` saves."""

    def __init__(self, lives: int | None = None) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        self.lives = lives

    def load(self, step: str, unit: str) -> Result | None:
        return self.results.get((step, unit))

    def save(self, step: str, unit: str, result: Result) -> None:
        if self.lives is not None and len(self.results) >= self.lives:
            raise KilledError
        self.results[step, unit] = result


def absorb(state, method, result):
    work = Workpiece(state)
    work.take_in(method, result)
    return work.state


def _windows(model, count=4, length=10):
    return torch.randint(0, model.arch.vocab_size, (count, length), generator=torch.Generator().manual_seed(5))


def _run(model, recipe=RECIPE, scheme=None, **options):
    methods = [make(name, FAST.get(name, {})) for name in recipe]
    return run_methods(model, scheme or Scheme(4), methods, _windows(model), prefix=(1,), seed=3, **options)


def _assert_equal(first, second):
    assert first.activations == second.activations
    assert first.model.tensors.keys() == second.model.tensors.keys()
    for name, tensor in first.model.tensors.items():
        assert torch.equal(tensor, second.model.tensors[name]), name
    assert first.weights.keys() == second.weights.keys()
    for name, weight in first.weights.items():
        other = second.weights[name]
        assert torch.equal(weight.codes, other.codes) and torch.equal(weight.scale, other.scale), name
    for layer in range(first.model.arch.num_layers):
        assert torch.equal(first.prefix.keys[layer], second.prefix.keys[layer])


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
@pytest.mark.parametrize("last", ["rtn", "gptq"])
def test_recipe_leaves_a_complete_model(family, last):
    model = tiny_model(family)
    quantized = _run(model, ("smoothquant", "ranges", last))
    assert set(quantized.weights) == {*model.tables(), *model.linears()}
    assert set(quantized.activations) == set(point.all_points(model.arch))
    for name, weight in quantized.weights.items():
        assert weight.qtype == Scheme(4).weight_qtype(name)
        assert weight.codes.shape == quantized.model.weight(name).shape
    if quantized.model.arch.tied_head:
        assert quantized.weights["lm_head"] is quantized.weights["embed"]
    logits = forward(quantized.simulated(), _windows(model), tap=quantized.tap(), prefix=quantized.simulated_prefix())
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("lives", [0, 1, 4, 5, 9, 16])
def test_killed_run_resumes_to_equal_bytes(lives):
    model = tiny_model("llama")
    whole = _run(model)
    memory = Memory(lives)
    with pytest.raises(KilledError):
        _run(model, checkpoint=memory)
    assert len(memory.results) == lives
    memory.lives = None
    _assert_equal(_run(model, checkpoint=memory), whole)


def test_finished_steps_cost_no_data_pass(monkeypatch):
    model = tiny_model("llama")
    memory = Memory()
    whole = _run(model, checkpoint=memory)

    def forbidden(*args, **kwargs):
        raise AssertionError("a data pass was made although every unit was finished")

    monkeypatch.setattr(run, "collect", forbidden)
    monkeypatch.setattr(run.stream, "enter", forbidden)
    _assert_equal(_run(model, checkpoint=memory), whole)


def test_twice_the_same_is_the_same():
    model = tiny_model("llama")
    _assert_equal(_run(model), _run(model))


def test_random_numbers_depend_on_seed_and_unit_alone():
    first, again, other, reseeded = (
        torch.rand(4, generator=unit_generator(seed, unit))
        for seed, unit in ((3, "layers.0.q"), (3, "layers.0.q"), (3, "layers.0.k"), (4, "layers.0.q"))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other) and not torch.equal(first, reseeded)


def test_prefix_is_computed_anew_behind_a_transform():
    model = tiny_model("llama")
    quantized = _run(model)
    fresh = compute_prefix(quantized.model, (1,))
    stale = compute_prefix(model, (1,))
    assert torch.equal(quantized.prefix.values[0], fresh.values[0])
    assert not torch.allclose(quantized.prefix.values[0], stale.values[0])


def test_gptq_sees_quantized_inputs():
    model = tiny_model("llama")
    with_ranges = _run(model, ("ranges", "gptq"))
    memory = Memory()
    with pytest.raises(UsageError):
        _run(model, ("gptq",), checkpoint=memory)  # incomplete, but its codes are there
    without = {unit: result.weights[unit] for (_, unit), result in memory.results.items()}
    first, later = "layers.0.q", "layers.1.down"
    assert not torch.equal(with_ranges.weights[later].codes, without[later].codes)
    assert torch.equal(with_ranges.weights[first].scale, without[first].scale)


def test_gptq_beats_rtn_on_the_outputs_of_the_model():
    model = tiny_model("llama")
    windows = torch.randint(0, 96, (32, 24), generator=torch.Generator().manual_seed(1))
    errors = {}
    for last in ("rtn", "gptq"):
        found = run_methods(model, Scheme(4), [make("ranges", {}), make(last, {})], windows)
        errors[last] = (forward(found.simulated(), windows) - forward(model, windows)).square().mean().item()
    assert errors["gptq"] < 0.9 * errors["rtn"]


def test_groups_reach_every_linear_but_embedding_and_head():
    quantized = _run(tiny_model("llama"), scheme=Scheme(4, group_size=16))
    assert {name: weight.group_size for name, weight in quantized.weights.items() if name in ("embed", "lm_head")} == {
        "embed": None,
        "lm_head": None,
    }
    assert all(quantized.weights[f"layers.0.{role}"].group_size == 16 for role in ("q", "o", "down"))


def test_missing_codes_and_ranges_are_named_with_the_method_that_gives_them():
    model = tiny_model("llama")
    with pytest.raises(UsageError, match="no integer codes for embed") as caught:
        _run(model, ("ranges",))
    assert "rtn" in caught.value.remedy
    with pytest.raises(UsageError, match="no range for embed") as caught:
        _run(model, ("rtn",))
    assert "ranges" in caught.value.remedy


@pytest.mark.parametrize("early", ["ranges", "rtn"])
def test_transform_behind_ranges_or_codes_is_refused(early):
    with pytest.raises(UsageError, match="smoothquant"):
        _run(tiny_model("llama"), (early, "smoothquant"))


def test_units_come_in_running_order():
    arch = tiny_model("llama").arch
    linear = all_units("linear", arch)
    assert (linear[0], linear[1], linear[-1], len(linear)) == ("embed", "layers.0.q", "lm_head", 2 + 7 * 2)
    assert all_units("block", arch) == ["layers.0", "layers.1", "head"]
    assert all_units("model", arch) == ["model"]
    assert "lm_head" not in all_units("linear", tiny_model("qwen2").arch)


def test_a_result_may_make_layer_norms_rms_norms():
    model = tiny_model("gpt2")
    state = QuantizedModel(model, Scheme(4), {}, {})
    plain = Result(tensors={name: torch.zeros(48) for name in model.tensors if name.endswith("norm.bias")})
    assert absorb(state, "x", plain).model.arch == model.arch
    changed = absorb(state, "x", replace(plain, norm="rms")).model
    assert changed.arch == replace(model.arch, norm="rms")
    assert model.tensors.keys() - changed.tensors.keys() == plain.tensors.keys()


def test_results_of_a_checkpoint_go_to_the_device_of_the_run():
    model = tiny_model("qwen2")
    elsewhere = QuantizedModel(model.to(device="meta"), Scheme(4), {}, {})
    table = Result(weights={"embed": QuantizedWeight(torch.ones(96, 48, dtype=torch.int8), torch.ones(96), INT8)})
    state = absorb(elsewhere, "rtn", table)
    assert state.weights["lm_head"] is state.weights["embed"]
    assert state.weights["embed"].codes.device.type == "meta"
    assert absorb(state, "x", Result(tensors={"final_norm.weight": torch.ones(48)})).model.device.type == "meta"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_quantized_model_moves_as_a_whole(family):
    quantized = _run(tiny_model(family))
    moved = quantized.to("meta")
    tensors = [*moved.model.tensors.values(), *moved.prefix.keys, *moved.prefix.values]
    tensors += [part for weight in moved.weights.values() for part in (weight.codes, weight.scale)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    tied = family == "qwen2"
    assert (moved.weights["lm_head"] is moved.weights["embed"]) == tied
    assert (moved.model.weight("lm_head") is moved.model.weight("embed")) == tied
    _assert_equal(quantized.to("cpu"), quantized)


TRANSFORMS = ("center", "ptf", "smoothquant")


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "opt", "gpt2"])
@pytest.mark.parametrize("name", ("rotate", *TRANSFORMS))
def test_a_method_says_which_points_it_changes(name, family):
    model = tiny_model(family).to(dtype=torch.float64)
    written = f"{point.residual_writers(model.arch)[0]}.weight"
    rows = torch.where(torch.arange(len(model.tensors[written])) == 5, 50.0, 1.0).double()
    uneven = model.tensors[written] * rows.view(-1, *[1] * (model.tensors[written].dim() - 1))
    model = model.with_tensors({written: uneven})  # else the residual needs no exponents
    recipe = [make(name, {}), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    changed = run_methods(model, Scheme(8), recipe, _windows(model)).model
    before, after = values_by_point(model), values_by_point(changed)
    moved = {point.role_of(each) for each in before if not torch.allclose(before[each], after[each], rtol=1e-9)}
    assert moved and moved <= METHODS[name].changes


@pytest.mark.parametrize("name", [name for name in METHODS if name not in (*TRAINED, "learned_rotation")])
def test_only_rounding_looks_at_the_format_of_weights(name):
    first = (name,) if name not in BEHIND_RANGES else ("ranges", name)
    recipe = ("ranges", name) if METHODS[name].rounds else tuple(dict.fromkeys((*first, "ranges", "rtn")))
    per_scheme = []
    for scheme in (Scheme(8), Scheme(4), Scheme(4, group_size=8)):
        memory = Memory()
        _run(tiny_model("llama"), recipe, scheme, checkpoint=memory)
        per_scheme.append([result for (step, _), result in memory.results.items() if step.endswith(f"-{name}")])
    for results in zip(*per_scheme, strict=True):
        if METHODS[name].rounds:
            assert all(result.weights and not (result.tensors or result.activations) for result in results)
        else:
            assert not any(result.weights for result in results)
            assert len({to_bytes(result) for result in results}) == 1


def values_by_point(model):
    values = {}

    def tap(name, value):
        values[name] = value
        return value

    forward(model, _windows(model), tap=tap)
    return {name: values[name] for name in point.all_points(model.arch)}


def test_methods_that_do_not_disturb_one_another_share_a_pass(monkeypatch):
    model, passes = tiny_model("llama"), []

    def counted(*args, task, **kwargs):
        passes.append(task.removeprefix("statistics for "))
        return collect(*args, task=task, **kwargs)

    monkeypatch.setattr(run, "collect", counted)
    recipe = (*TRANSFORMS, "ranges", "rtn")
    shared = _run(model, recipe)
    assert passes == ["center and ptf", "smoothquant", "ranges"]
    monkeypatch.setattr(METHODS["center"], "changes", frozenset({"embed"}))
    _assert_close(_run(model, recipe), shared)
    assert passes[3:] == ["center", "ptf", "smoothquant", "ranges"]


def _assert_close(first, second):
    """Equal but for the order in which floats were added."""
    for name, tensor in first.model.tensors.items():
        torch.testing.assert_close(tensor, second.model.tensors[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lives", [0, 1, 2, 3, 4, 6, 9])
def test_a_run_killed_inside_a_shared_pass_resumes_to_equal_bytes(lives):
    model, recipe = tiny_model("llama"), (*TRANSFORMS, "ranges", "rtn")
    whole, memory = _run(model, recipe), Memory(lives)
    with pytest.raises(KilledError):
        _run(model, recipe, checkpoint=memory)
    memory.lives = None
    _assert_equal(_run(model, recipe, checkpoint=memory), whole)
