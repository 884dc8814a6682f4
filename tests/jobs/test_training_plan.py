"""Plans of methods that train: they follow the recipe, and what was measured."""

import pytest
import torch

from mobilequant.arch import point
from mobilequant.arch.registry import find
from mobilequant.jobs.plan import plan_quantize
from mobilequant.jobs.training_plan import batch_of, training_cost
from mobilequant.methods.registry import make
from mobilequant.methods.training import learned_ranges
from mobilequant.models.quantized import QuantizedModel
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16
from mobilequant.pipeline.recipe import CalibrationData, MethodEntry, load_recipe
from mobilequant.pipeline.scheme import parse_scheme
from mobilequant.solvers.learned.weight_rounding import RoundedWeights, covering
from mobilequant.solvers.student import Student

SCHEME = parse_scheme("static_w4c_a8_kv8")
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
TRAINED = ("mobilequant", "omniquant", "self_distillation", "signround", "learned_rotation")


def cost(name, *, window=128, count=64, arch=None, device="cpu", **options):
    arch = arch or tiny_model("llama").arch
    return training_cost(make(name, options), arch, SCHEME, CalibrationData(window=window, count=count), device)


def test_only_methods_that_train_have_a_cost():
    assert cost("rtn") is None
    assert cost("sixteen_bit") is None
    assert all(cost(name) for name in TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_time_grows_with_epochs_windows_and_their_length(name):
    once = cost(name, epochs=2)
    assert cost(name, epochs=4).operations > 1.8 * once.operations
    assert cost(name, epochs=2, count=128).operations > 1.9 * once.operations
    assert cost(name, epochs=2, window=256).operations > 1.9 * once.operations
    assert cost(name, epochs=2, window=256).memory_bytes > once.memory_bytes


@pytest.mark.parametrize("name", ("mobilequant", "self_distillation", "learned_rotation"))
def test_batch_costs_memory_and_recompute_saves_it_for_time(name):
    small, large = (cost(name, batch=batch) for batch in (2, 8))
    assert large.memory_bytes > small.memory_bytes
    assert large.operations <= small.operations
    again = cost(name, batch=8, recompute=True)
    assert again.memory_bytes < large.memory_bytes
    assert again.operations > large.operations


def test_a_block_at_a_time_holds_the_leaves_of_all_and_trains_those_of_one():
    alone, together = (cost(name, count=32, batch=2) for name in ("signround", "self_distillation"))
    leaves = 4 * sum(tensor.numel() for name, tensor in tiny_model("llama").tensors.items() if "layers" in name)
    assert leaves < alone.memory_bytes < together.memory_bytes
    assert cost("signround", count=32, batch=8).memory_bytes > alone.memory_bytes
    assert batch_of(make("signround", {"batch": 6}), CalibrationData(window=128, count=64)) == 6
    assert batch_of(make("signround", {"batch": 6}), CalibrationData(window=128, count=4)) == 4


def test_published_training_sees_one_window_at_a_time_twenty_times():
    assert cost("mobilequant", mode="faithful") == cost("mobilequant", mode="faithful", epochs=20)
    assert cost("mobilequant", mode="faithful", epochs=60).operations > cost("mobilequant", mode="faithful").operations
    assert cost("omniquant").memory_bytes < cost("mobilequant", mode="faithful", window=128).memory_bytes


def test_a_leaf_per_weight_is_kept_on_disk():
    codes, free = cost("mobilequant"), cost("self_distillation")
    assert free.work_bytes - codes.work_bytes >= 16 * sum(
        tensor.numel() for name, tensor in tiny_model("llama").tensors.items() if name.startswith("layers.0.q.")
    )
    assert free.memory_bytes > codes.memory_bytes


def test_rotating_the_weights_in_each_step_costs_time_and_memory_for_the_rotations():
    learned, plain = cost("learned_rotation"), cost("mobilequant")
    rotations = 48**2 + 2 * 2 * 12**2
    assert learned.operations > plain.operations
    assert learned.memory_bytes - plain.memory_bytes >= 4 * 5 * rotations
    assert 4 * 10 * rotations <= learned.work_bytes


def test_the_plan_of_a_recipe_counts_its_training_text():
    preset = load_recipe("w4a8-fast")
    arch = tiny_model("llama").arch
    methods = (*preset.methods, MethodEntry(name="mobilequant", options={"batch": 2, "held_out": 2}))
    on_data = preset.model_copy(update={"methods": methods})
    on_more = on_data.model_copy(update={"training": CalibrationData(window=512, count=256)})
    plain, short, long = (plan_quantize(arch, each, 1e9) for each in (preset, on_data, on_more))
    assert plain.time_s < short.time_s < long.time_s
    assert plain.memory_bytes < short.memory_bytes
    assert plain.work_bytes < short.work_bytes == long.work_bytes
    assert plan_quantize(arch, on_data, 1e9, "cuda").time_s < short.time_s


@pytest.mark.parametrize("family", ("llama", "qwen2", "gemma3_text", "gpt2"))
def test_what_waits_for_the_backward_pass_is_within_a_factor_of_two(family):
    """Tensors that autograd keeps, each storage once, beside those of the model and the leaves."""
    model, window = tiny_model(family), 48
    student = _student(model)
    tokens = torch.randint(0, model.arch.vocab_size, (2, window), generator=torch.Generator().manual_seed(0))
    known = {each.untyped_storage().data_ptr() for each in model.tensors.values()}
    known |= {each.untyped_storage().data_ptr() for each in student.parameters(student.parts()).values()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = student.body(tokens)
    found = sum(kept.values())
    one, two = (cost("mobilequant", arch=model.arch, window=window, batch=batch).memory_bytes for batch in (1, 2))
    matrices = 2 * 4 * sum(model.weight(name).numel() for name in model.linears() if name != point.LM_HEAD)
    assert hidden.requires_grad
    assert found / 2 < 2 * (two - one) + matrices < 2 * found


# One step of 512 tokens with SmolLM2-135M on two cores that do 200 GFLOP/s in matrix products: seconds, and GB of the
# process in all, of which 1.1 before the first step.
MEASURED = [
    ("mobilequant", {}, 6.6, 6.1),
    ("mobilequant", {"weights": "rounding", "pairs": ("norm_to_qkv", "norm_to_mlp", "up_to_down")}, 11.3, 8.5),
    ("mobilequant", {"recompute": True}, None, 3.4),
    ("mobilequant", {"mode": "faithful"}, None, 5.7),
]


@pytest.mark.parametrize(("name", "options", "step_s", "peak_gb"), MEASURED)
def test_the_cost_of_a_real_step_is_within_a_factor_of_two(name, options, step_s, peak_gb):
    arch = find("llama").resolve(SMOLLM2)
    small = {} if options.get("mode") == "faithful" else {"batch": 1, "held_out": 1}
    few, many = (cost(name, arch=arch, window=512, count=count, **small, **options) for count in (101, 201))
    peak = 1.1e9 + many.memory_bytes
    assert peak_gb / 2 < peak / 1e9 < 2 * peak_gb
    if step_s:
        assert step_s / 2 < (many.operations - few.operations) / 100 / 200e9 < 2 * step_s


def _student(model):
    """With everything learned but scale pairs; ranges as they may be."""
    ranges = {
        name: QParams(0.01, 0 if SCHEME.activation_qtype(name) == INT16 else 128, SCHEME.activation_qtype(name))
        for name in point.all_points(model.arch)
    }
    state = QuantizedModel(model, SCHEME, {}, ranges)
    names = [name for name in model.linears() if name != point.LM_HEAD]
    scales = {name: covering(model.weight(name), SCHEME.weight_qtype(name)) for name in names}
    weights = RoundedWeights(model, SCHEME, scales, "rounding")
    return Student(model, None, (), weights, learned_ranges(state))
