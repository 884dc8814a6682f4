"""Learned rotations as a piece: exact for every state of the leaves, and orthogonal."""

import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.methods.registry import make
from mobilequant.methods.unit import unit_generator
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import UINT8
from mobilequant.pipeline.method import Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.key_angle import KeyAngles
from mobilequant.solvers.learned.measured_range import MeasuredRanges
from mobilequant.solvers.learned.rotation import Rotations, TurnedStream
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.student import Student
from mobilequant.transforms.orthogonal import rotation_of
from mobilequant.transforms.rewrite import rewritten
from mobilequant.transforms.rotation import rotate_residual, rotate_values

POST_NORMS = ("gemma2", "gemma3_text")
TOKENS = torch.randint(0, 96, (2, 10), generator=torch.Generator().manual_seed(8))
PREFIX = (1, 5)


def rotatable(family):
    """As ``rotate`` leaves it."""
    model = tiny_model(family)
    unit = Unit("model", model.arch, model.tensors, {})
    result = make("rotate", {}).apply(unit, {}, Scheme(8), unit_generator(0, "model"))
    changed = rewritten(model, result.rewrites)
    return changed.with_rms_norms() if result.norm else changed


def unrounded(model):
    return MeasuredRanges((), model.device, {}, ())


def moved_student(family, *, recompute=False, prefix=True, residual=True, ranges=unrounded):
    """A student whose rotations are far from the identity."""
    model = rotatable(family)
    rotations = Rotations(model.arch, model.device, residual=residual and family not in POST_NORMS, heads=True)
    constant = compute_prefix(model, PREFIX) if prefix else None
    turned = TurnedStream(ranges(model), rotations)
    angles = KeyAngles(model.arch, model.device)
    student = Student(model, constant, (rotations, angles), RoundedWeights(model, Scheme(8), {}), turned, recompute)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for leaf in student.parameters(student.parts()).values():
            leaf += 2.0 * torch.randn(leaf.shape, generator=generator)
    return student, rotations


@pytest.mark.parametrize("size", [0.0, 0.1, 4.0, 16.0])
def test_the_exponential_of_a_skew_matrix_is_its_rotation(size):
    free = torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    skew = free - free.mT
    skew = skew * (size / torch.linalg.matrix_norm(skew, 2)[:, None, None])
    found = rotation_of(skew)
    assert (found - torch.linalg.matrix_exp(skew)).abs().max() < 1e-6
    assert (found @ found.mT - torch.eye(20)).abs().max() < 1e-6
    assert size or torch.equal(found, torch.eye(20, dtype=torch.float64).expand(3, 20, 20))


def test_gradients_of_the_exponential():
    free = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: rotation_of(each - each.mT), (free,))


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("family", registry.model_types())
def test_without_rounding_the_function_is_unchanged(family, prefix):
    student, _ = moved_student(family, prefix=prefix)
    found = student.head(student.body(TOKENS))
    expected = forward(student.model, TOKENS, prefix=student.prefix)
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 2e-5
    stream = student.body(TOKENS)
    turned = family not in POST_NORMS
    plain = Student(student.model, student.prefix, (), student.weights, unrounded(student.model)).body(TOKENS)
    assert ((stream - plain).abs().max() > 0.1 * plain.abs().max()) == turned


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_what_is_finished_is_orthogonal_and_what_was_trained(family):
    student, rotations = moved_student(family)
    residual, heads = rotations.finished()
    assert (residual is None) == (family in POST_NORMS)
    for each in (*([] if residual is None else [residual]), *heads.values()):
        identity = torch.eye(each.shape[-1], dtype=torch.float64)
        assert each.dtype == torch.float64 and (each @ each.mT - identity).abs().max() < 1e-12
        assert (each - identity).abs().max() > 0.1
    arch, tensors = student.model.arch, dict(student.model.tensors)
    if residual is not None:
        tensors |= rotate_residual(tensors, arch, residual)
    for layer, matrices in heads.items():
        tensors |= rotate_values(tensors, arch, layer, matrices)
    student.embed(TOKENS)
    for layer in range(arch.num_layers):
        for name, tensor in rotations.rewrite(student.model.tensors, f"layers.{layer}").items():
            torch.testing.assert_close(tensor, tensors[name], rtol=1e-4, atol=1e-5)


def test_both_rotations_start_at_what_is_there():
    model = rotatable("llama")
    rotations = Rotations(model.arch, model.device, residual=True, heads=True)
    residual, heads = rotations.finished()
    assert torch.equal(residual, torch.eye(48, dtype=torch.float64)) and sorted(heads) == [0, 1]
    assert rotations.parameters("head").keys() == {"residual.turn"}
    assert rotations.parameters("layers.1").keys() == {"layers.1.v.turn"}
    only_heads = Rotations(model.arch, model.device, residual=False, heads=True)
    assert not only_heads.parameters("head") and only_heads.finished()[0] is None
    no_heads = Rotations(model.arch, model.device, residual=True, heads=False)
    assert not no_heads.parameters("layers.1") and not no_heads.finished()[1]


def measured(model):
    arch = model.arch
    points = [name for name in point.all_points(arch) if Scheme(8).activation_qtype(name) == UINT8]
    known = {name: QParams(1 / 256, 0, UINT8) for name in points if point.role_of(name) == "probs"}
    return MeasuredRanges(points, model.device, known, [point.key_point(arch, layer) for layer in (0, 1)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_gradients_reach_every_rotation_and_recomputing_changes_none(family):
    gradients = []
    for recompute in (False, True):
        student, _ = moved_student(family, recompute=recompute, ranges=measured)
        for _ in range(2):  # the second pass must not need what the first has used up
            leaves = student.parameters(student.parts())
            found = student.head(student.body(TOKENS)).square().mean()
            gradients.append(dict(zip(leaves, torch.autograd.grad(found, list(leaves.values())), strict=True)))
    assert all(each.isfinite().all() and each.abs().max() > 0 for each in gradients[0].values())
    for others in gradients[1:]:
        assert all(torch.equal(each, others[name]) for name, each in gradients[0].items())


class TestMeasuredRanges:
    def tap(self, centred=()):
        return MeasuredRanges(["a", "probs"], torch.device("cpu"), {"probs": QParams(1 / 256, 0, UINT8)}, centred).tap(
            ""
        )

    def test_values_are_rounded_in_a_range_that_covers_them(self):
        value = torch.linspace(-3.0, 7.2, 500)
        found = self.tap()("a", value)
        assert (found - value).abs().max() <= 0.5 * 10.2 / 255 * 1.001
        assert len(found.unique()) == 256 and (found == 0).any()
        assert self.tap()("b", value) is value

    def test_a_centred_range_has_as_many_codes_on_both_sides(self):
        found = self.tap(["a"])("a", torch.linspace(-3.0, 7.2, 5000))
        codes = found / (7.2 / 127)
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
        assert codes.max() == pytest.approx(127) and found.min() == pytest.approx(-3.0, abs=7.2 / 254)

    def test_what_is_known_is_not_measured(self):
        found = self.tap()("probs", torch.tensor([0.001, 0.3, 1.0]))
        assert found.tolist() == [0.0, 77 / 256, 255 / 256]

    def test_zeros_stay_zeros(self):
        assert not self.tap()("a", torch.zeros(4)).any() and not self.tap(["a"])("a", torch.zeros(4)).any()

    def test_the_gradient_of_an_extreme_is_that_of_the_step(self):
        """Scaling all values scales the result: the sum over values times gradients is the sum of the results."""
        value = torch.randn(200, generator=torch.Generator().manual_seed(3), dtype=torch.float32).requires_grad_()
        weights = torch.randn(200, generator=torch.Generator().manual_seed(4))
        found = (self.tap(["a"])("a", value) * weights).sum()
        (gradient,) = torch.autograd.grad(found, value)
        torch.testing.assert_close((gradient * value).sum(), found, rtol=1e-4, atol=1e-4)
