import pytest

from mobilequant.arch.registry import find
from mobilequant.jobs.model_size import block_parameters
from mobilequant.jobs.plan import (
    evaluate_memory_bytes,
    evaluate_time_s,
    measured_flops_per_s,
    plan_quantize,
)
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.pipeline.recipe import MethodEntry, load_recipe


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


def test_a_plan_counts_what_the_16_bit_choice_tries():
    preset = load_recipe("w8a8-fast")
    without = tuple(method for method in preset.methods if method.name != "sixteen_bit")
    choices = (
        {"fraction_of_down": 0.0},
        {"remove": ("o",), "fraction_of_down": 0.0},
        {"remove": ("o", "down"), "fraction_of_down": 0.0},
        {"remove": ("o", "down")},
    )
    arch = tiny_model("llama").arch
    none, *times = (
        plan_quantize(arch, preset.model_copy(update={"methods": methods}), 1e9).time_s
        for methods in (without, *((*without, MethodEntry(name="sixteen_bit", options=each)) for each in choices))
    )
    assert none == times[0] < times[1] < times[2] < times[3]
    assert plan_quantize(arch, preset, 1e9).time_s > none


def test_a_rotated_residual_takes_a_head_of_its_own():
    preset = load_recipe("w8a8-fast")
    table = 96 * 48
    for family, options, grows in (
        ("qwen2", {}, True),
        ("qwen2", {"residual": "none"}, False),
        ("gemma2", {}, False),
        ("llama", {}, False),
    ):
        arch = tiny_model(family).arch
        rotated = preset.model_copy(update={"methods": (MethodEntry(name="rotate", options=options), *preset.methods)})
        before, after = (plan_quantize(arch, recipe, 1e9) for recipe in (preset, rotated))
        assert after.time_s == before.time_s
        assert (after.package_bytes - before.package_bytes >= table) == grows, family
        assert (after.memory_bytes - before.memory_bytes >= 4 * table) == grows, family


def test_scoring_holds_three_models_and_the_logits_of_a_window():
    model, recipe = tiny_model("llama"), load_recipe("w8a8-fast")
    three = 3 * 4 * sum(tensor.numel() for name, tensor in model.tensors.items() if tensor.dim() == 2)
    needed = [evaluate_memory_bytes(model.arch, recipe, window) for window in (64, 128)]
    assert three < needed[0] < needed[1]
    assert needed[1] - needed[0] >= 64 * model.arch.vocab_size * 8


def test_scoring_holds_the_head_that_a_rotation_unties():
    preset, table = load_recipe("w8a8-fast"), 96 * 48
    rotated = preset.model_copy(update={"methods": (MethodEntry(name="rotate", options={}), *preset.methods)})
    for family, more in (("qwen2", 9 * table), ("llama", 0)):
        arch = tiny_model(family).arch
        before, after = (evaluate_memory_bytes(arch, recipe, 64) for recipe in (preset, rotated))
        assert after - before == more, family


def seven_billion():
    return find("llama").resolve(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 32000,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
        }
    )


@pytest.mark.parametrize("name", ["w8a8-fast", "w4a8-fast", "rotated"])
def test_seven_billion_weights_fit_one_gpu_of_80_gb(name):
    recipe = load_recipe("w4a8-fast" if name == "rotated" else name)
    if name == "rotated":
        training = MethodEntry(name="mobilequant", options={"recompute": True, "batch": 1, "held_out": 2})
        methods = (MethodEntry(name="rotate", options={}), *recipe.methods, training)
        recipe = recipe.model_copy(update={"methods": methods})
    plan = plan_quantize(seven_billion(), recipe, 1e13, "cuda:0")
    assert 27e9 * 1.25 < plan.device_bytes < 70e9
    assert 2 * 27e9 < plan.memory_bytes < 100e9
    assert plan.work_bytes < 20e9
    assert plan_quantize(seven_billion(), recipe, 1e13).device_bytes == 0


def test_a_leaf_per_weight_does_not_fit():
    recipe = load_recipe("w4a8-fast")
    methods = (*recipe.methods, MethodEntry(name="self_distillation", options={"recompute": True, "batch": 1}))
    plan = plan_quantize(seven_billion(), recipe.model_copy(update={"methods": methods}), 1e13, "cuda")
    assert plan.device_bytes > 150e9


def test_the_speed_of_this_machine_is_a_speed():
    assert 1e8 < measured_flops_per_s() < 1e16
