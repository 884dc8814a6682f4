import pytest

from mobilequant.jobs.plan import block_parameters, evaluate_time_s, measured_flops_per_s, plan_quantize
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.pipeline.recipe import load_recipe


@pytest.mark.parametrize("family", CONFIGS)
def test_block_parameters_count_the_matrices_of_every_family(family):
    model = tiny_model(family)
    blocks = [name for name in model.linears() if name.startswith("layers.")]
    assert block_parameters(model.arch) == sum(model.weight(name).numel() for name in blocks)


def test_a_plan_grows_with_the_work():
    arch = tiny_model("llama").arch
    rtn, gptq = (plan_quantize(arch, load_recipe(name), 1e9) for name in ("w8a8-fast", "w4a8-fast"))
    assert gptq.time_s > rtn.time_s
    assert gptq.package_bytes < rtn.package_bytes
    assert plan_quantize(arch, load_recipe("w8a8-fast"), 2e9).time_s == rtn.time_s / 2
    assert evaluate_time_s(arch, 2000, 1e9) == 2 * evaluate_time_s(arch, 1000, 1e9)


def test_the_speed_of_this_machine_is_a_speed():
    assert 1e8 < measured_flops_per_s() < 1e16
