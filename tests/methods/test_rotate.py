import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.errors import UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods import run
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.unit import unit_generator
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.method import Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.pipeline.workspace import Workspace
from mobilequant.transforms.rewrite import rewritten

FAMILIES = registry.model_types()
POST_NORMS = ("gemma2", "gemma3_text")
TOKENS = torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))
PREFIX = (1, 5)
TRANSFORMS = ("rotate", "center", "ptf", "smoothquant")


def recipe(*names, **options):
    return [make(name, options.get(name, {})) for name in names]


def rotated(model, seed=0, **config):
    """What the method alone makes of a model."""
    unit = Unit("model", model.arch, model.tensors, {})
    result = make("rotate", config).apply(unit, {}, Scheme(8), unit_generator(seed, "model"))
    changed = rewritten(model, result.rewrites)
    return changed.with_rms_norms() if result.norm else changed


def quantized(model, *names, bits=8, checkpoint=None):
    methods = recipe(*names, ranges={"estimator": "minmax"})
    return run_methods(model, Scheme(bits), methods, TOKENS, prefix=PREFIX, checkpoint=checkpoint)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("config", [{}, {"residual": "orthogonal", "heads": "none"}, {"heads": "orthogonal"}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_function_is_unchanged(family, config):
    model = tiny_model(family).to(dtype=torch.float64)
    changed = rotated(model, **config)
    assert relative(forward(changed, TOKENS), forward(model, TOKENS)) < 1e-9
    found, expected = (forward(each, TOKENS, prefix=compute_prefix(each, PREFIX)) for each in (changed, model))
    assert relative(found, expected) < 1e-9
    assert changed.arch.norm == "rms" and changed.arch.tied_head == (family in POST_NORMS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [4, 8])
def test_whole_recipes_reach_integers_that_follow_the_model(family, bits):
    model = tiny_model(family)
    found = provable(quantized(model, *TRANSFORMS, "ranges", "gptq", bits=bits))
    exact = forward(model, TOKENS, prefix=compute_prefix(model, PREFIX))
    torch.testing.assert_close(forward(found.model, TOKENS, prefix=found.prefix), exact, rtol=1e-3, atol=1e-3)
    graph = lower(found)
    assert graph.float_ops() == []
    kinds = {op.attributes["subtract_mean"] for op in graph.ops if op.kind == "norm"}
    assert kinds == {0}
    interpreter = Interpreter(graph)
    integers = interpreter.run(TOKENS[0], interpreter.state()).double() * interpreter.logits_scale
    simulated = forward(found.simulated(), TOKENS[:1], tap=found.tap(), prefix=found.simulated_prefix())[0]
    noise = (integers - simulated).square().sum() / simulated.square().sum()
    assert noise < 10**-2.5  # 25 dB, as tests/integer/test_lower.py asks for without rotation


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_smoothing_behind_it_treats_the_head_as_untied(family):
    model = quantized(tiny_model(family), "rotate", "smoothquant", "ranges", "rtn").model
    assert not model.arch.tied_head and point.COLUMN_SCALE not in model.tensors
    assert not (model.weight(point.FINAL_NORM) == 1).all()


@pytest.mark.parametrize("family", POST_NORMS)
def test_gains_behind_the_branches_keep_the_residual_as_it_is(family, caplog):
    model = tiny_model(family)
    with caplog.at_level("INFO"):
        changed = quantized(model, "rotate", "ranges", "rtn").model
    assert "residual is not rotated" in caplog.text and "'residual_rotated': 0.0" in caplog.text
    moved = {name for name in model.tensors if not torch.equal(model.tensors[name], changed.tensors[name])}
    assert {point.role_of(name.removesuffix(".weight")) for name in moved} == {"v", "o"}
    assert changed.arch == model.arch


@pytest.mark.parametrize(("family", "early"), [("llama", "ptf"), ("qwen2", "smoothquant")])
def test_behind_what_scales_the_residual_it_is_refused(family, early):
    model = tiny_model(family)
    embed = model.weight("embed").clone()
    embed[:, 5] *= 300  # so that both have something to scale
    model = model.with_tensors({"embed.weight": embed} | ({"lm_head.weight": embed} if model.arch.tied_head else {}))
    with pytest.raises(UsageError, match="'rotate'") as caught:
        quantized(model, early, "rotate", "ranges", "rtn")
    assert "before ptf and smoothquant" in caught.value.remedy


def test_nothing_asked_for_is_nothing_done():
    model = tiny_model("gpt2")
    changed = rotated(model, residual="none", heads="none")
    assert changed.arch == model.arch
    assert all(changed.tensors[name] is tensor for name, tensor in model.tensors.items())


def test_the_seed_decides_the_tensors():
    model = tiny_model("llama")
    first, again, other = (rotated(model, seed).tensors for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["embed.weight"], other["embed.weight"])
    assert not torch.allclose(first["layers.0.v.weight"], other["layers.0.v.weight"])


def test_every_head_has_a_matrix_of_its_own():
    model = tiny_model("llama")
    before, after = (each.weight("layers.0.v").view(2, 12, 48) for each in (model, rotated(model, residual="none")))
    turns = torch.linalg.lstsq(before.mT, after.mT).solution
    assert not torch.allclose(turns[0], turns[1], atol=0.1)


def test_a_massive_channel_costs_fewer_steps():
    """Gaussian at best: the largest of many values is then a few times their mean."""
    model = tiny_model("llama")
    embed = model.weight("embed").clone()
    embed[:, 5] += 30
    model = model.with_tensors({"embed.weight": embed})
    steps = [quantized(model, *names, "ranges", "rtn").activations["embed"].scale for names in ((), ("rotate",))]
    assert steps[1] < 0.3 * steps[0]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_killed_run_resumes_to_equal_bytes_without_a_pass(family, tmp_path, monkeypatch):
    """With another norm and an untied head, and with the units that only an untied head has."""
    model, names = tiny_model(family), ("rotate", "smoothquant", "ranges", "gptq")
    whole = quantized(model, *names, checkpoint=Workspace(tmp_path))
    half = Workspace(tmp_path / "half")
    for step, unit in (("0-rotate", "model"), ("1-smoothquant", "layers.0")):
        half.save(step, unit, Workspace(tmp_path).load(step, unit))
    assert_equal(quantized(model, *names, checkpoint=half), whole)

    def forbidden(*args, **kwargs):
        raise AssertionError("a pass was made although every unit was finished")

    monkeypatch.setattr(run, "collect", forbidden)
    monkeypatch.setattr(run.stream, "enter", forbidden)
    assert_equal(quantized(model, *names, checkpoint=Workspace(tmp_path)), whole)


def assert_equal(first, second):
    assert first.model.arch == second.model.arch and first.activations == second.activations
    assert first.model.tensors.keys() == second.model.tensors.keys()
    assert all(torch.equal(tensor, second.model.tensors[name]) for name, tensor in first.model.tensors.items())
    assert all(torch.equal(weight.codes, second.weights[name].codes) for name, weight in first.weights.items())
