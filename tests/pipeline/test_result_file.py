import pytest
import torch

from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT4, INT8, INT16, UINT8
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline import result_file
from mobilequant.pipeline.method import Result, Rewrite


def example() -> Result:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 6, generator=generator)
    codes = torch.randint(-7, 8, (4, 6), generator=generator, dtype=torch.int8)
    shared = QuantizedWeight(codes, torch.rand(4, generator=generator), INT8)
    grouped = QuantizedWeight(codes, torch.rand(4, generator=generator), INT4, torch.full((4, 2), 3, dtype=torch.uint8))
    return Result(
        tensors={
            "embed.weight": whole,
            "lm_head.weight": whole,
            "transposed": whole.t(),
            "row": whole[1],
            "double": torch.tensor([0.1, -0.0], dtype=torch.float64),
            "half": torch.tensor([1.5], dtype=torch.bfloat16),
            "scalar": torch.tensor(3),
            "empty": torch.zeros(0, 2),
        },
        activations={"a": QParams(0.1 + 0.2, 7, UINT8), "b": QParams(5e-324, 0, INT16)},
        weights={"embed": shared, "lm_head": shared, "layers.0.q": grouped},
        measures={"mse": 1 / 3, "huge": 1.7976931348623157e308},
        norm="rms",
    )


def write(tmp_path, result):
    path = tmp_path / "unit.safetensors"
    path.write_bytes(result_file.to_bytes(result))
    return path


def test_round_trip_is_exact(tmp_path):
    before = example()
    after = result_file.read(write(tmp_path, before))
    assert after.activations == before.activations
    assert after.measures == before.measures
    assert after.norm == before.norm
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in before.tensors.items():
        assert after.tensors[name].dtype == tensor.dtype
        assert torch.equal(after.tensors[name], tensor)
    for name, weight in before.weights.items():
        found = after.weights[name]
        assert found.qtype is weight.qtype
        assert torch.equal(found.codes, weight.codes)
        assert torch.equal(found.scale, weight.scale)
        assert found.group_size == weight.group_size


def test_rewrites_keep_their_order_and_factors(tmp_path):
    factor = torch.rand(3, 3, dtype=torch.float64)
    given = (
        Rewrite("fold_gains"),
        Rewrite("rotate_residual", factor=factor),
        Rewrite("fold", "layers.0.v_to_o", factor[0]),
    )
    found = result_file.read(write(tmp_path, Result(rewrites=given))).rewrites
    assert [(each.kind, each.where) for each in found] == [(each.kind, each.where) for each in given]
    assert found[0].factor is None and torch.equal(found[1].factor, factor) and torch.equal(found[2].factor, factor[0])


def test_an_unknown_rewrite_is_refused(tmp_path):
    path = write(tmp_path, Result(rewrites=(Rewrite("fold_everything"),)))
    with pytest.raises(ValueError, match="fold_everything"):
        result_file.read(path)


def test_most_results_leave_the_norms_as_they_are(tmp_path):
    assert result_file.read(write(tmp_path, Result())).norm is None


def test_a_tied_head_stays_one_object(tmp_path):
    after = result_file.read(write(tmp_path, example()))
    assert after.tensors["embed.weight"] is after.tensors["lm_head.weight"]
    assert after.weights["embed"] is after.weights["lm_head"]


def test_a_tied_head_stays_one_object_on_another_device():
    moved = example().to("meta")
    assert moved.tensors["embed.weight"] is moved.tensors["lm_head.weight"]
    assert moved.weights["embed"] is moved.weights["lm_head"]
    assert {tensor.device.type for tensor in moved.tensors.values()} == {"meta"}
    assert moved.weights["layers.0.q"].group_multiplier.device.type == "meta"


def test_equal_results_give_equal_bytes():
    assert result_file.to_bytes(example()) == result_file.to_bytes(example())


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_damaged_file_is_refused(tmp_path, keep):
    path = write(tmp_path, example())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged"):
        result_file.read(path)
