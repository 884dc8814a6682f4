import json
import struct
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilequant.arch import registry
from mobilequant.errors import CheckpointError, ResourceError
from mobilequant.models.canonical import build_model
from mobilequant.models.sources import resolve
from mobilequant.models.sources.gguf_config import FAMILIES, find_family, hf_config
from mobilequant.models.sources.gguf_file import convert
from mobilequant.models.sources.gguf_header import read_header
from mobilequant.models.sources.gguf_rope import LLAMA3_TABLE, LONG_TABLE, SHORT_TABLE, llama3_divisors
from mobilequant.models.sources.gguf_tensor import BLOCK_ROLES, MODEL_ROLES, hf_tensors, side_tables
from mobilequant.models.tiny import tiny_model
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline import resource

NAMES = {role: name for name, role in (BLOCK_ROLES | MODEL_ROLES).items()}
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
MODEL_TYPES = {"gemma3": "gemma3_text"}


def gguf_name(name):
    module, _, kind = name.rpartition(".")
    parts = module.split(".")
    return f"blk.{parts[1]}.{NAMES[parts[2]]}.{kind}" if parts[0] == "layers" else f"{NAMES[module]}.{kind}"


def paired(value, num_heads):
    """The row order of Llama's GGUF files: the two rows of a rotary pair side by side."""
    return value.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def gguf_tensors(architecture, model):
    tensors = {
        name: value for name, value in model.tensors.items() if name != "lm_head.weight" or not model.arch.tied_head
    }
    if architecture == "phi3":
        for layer in range(model.arch.num_layers):
            q, k, v, gate, up = (tensors.pop(f"layers.{layer}.{role}.weight") for role in ("q", "k", "v", "gate", "up"))
            tensors[f"layers.{layer}.qkv.weight"] = torch.cat((q, k, v))
            tensors[f"layers.{layer}.up.weight"] = torch.cat((gate, up))
    named = {gguf_name(name): value for name, value in tensors.items()}
    if architecture == "llama":
        heads = {"attn_q": model.arch.num_heads, "attn_k": model.arch.num_kv_heads}
        named = {n: paired(v, heads[n.split(".")[2]]) if n.split(".")[-2] in heads else v for n, v in named.items()}
    return named


def metadata(architecture, model):
    arch = model.arch
    sliding = [layer.window for layer in arch.layers if layer.window]
    entries = {
        "embedding_length": arch.hidden_size,
        "feed_forward_length": arch.intermediate_size,
        "block_count": arch.num_layers,
        "attention.head_count": arch.num_heads,
        "attention.head_count_kv": arch.num_kv_heads,
        "attention.key_length": arch.head_dim,
        "context_length": arch.max_context,
        "rope.dimension_count": arch.layers[-1].rope.rotary_dim,
        "rope.freq_base": 1e6 if architecture == "gemma3" else 1e4,
        "attention.layer_norm_epsilon" if arch.norm == "layer" else "attention.layer_norm_rms_epsilon": arch.norm_eps,
    }
    if sliding:
        entries["attention.sliding_window"] = sliding[0]
    if arch.attention_softcap:
        entries |= {"attn_logit_softcapping": arch.attention_softcap, "final_logit_softcapping": arch.final_softcap}
    return {f"{architecture}.{name}": value for name, value in entries.items()}


def write_gguf(path, architecture, entries, tensors, *, tokens=None, merges=(), qtype=GGMLQuantizationType.F32):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in entries.items():
        add = {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool, str: writer.add_string}
        add[type(value)](key, value)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types([1] * len(tokens))
        writer.add_token_merges(list(merges))
    for name, value in tensors.items():
        array = value.float().numpy()
        packed = gguf.quantize(array, qtype if array.ndim > 1 else GGMLQuantizationType.F32)
        writer.add_tensor(name, packed, raw_dtype=qtype if array.ndim > 1 else GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny(architecture, **overrides):
    # The sizes that GGUF leaves out are those of the real models.
    extra = {"query_pre_attn_scalar": 16} if architecture in ("gemma2", "gemma3") else {}
    extra |= {"num_hidden_layers": 7, "sliding_window_pattern": 6} if architecture == "gemma3" else {}
    extra |= {"use_qkv_bias": False} if architecture == "stablelm" else {}
    return tiny_model(MODEL_TYPES.get(architecture, architecture), **{**SIZES, **extra, **overrides})


def loaded(path):
    header = read_header(path)
    family, spec = find_family(header)
    config = hf_config(header, side_tables(path, header))
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    return build_model(config, dict(hf_tensors(path, header, spec, heads if family.interleaved_rope else {})))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_comes_back_as_it_was(tmp_path, architecture):
    path, model = tmp_path / "tiny.gguf", tiny(architecture)
    write_gguf(path, architecture, metadata(architecture, model), gguf_tensors(architecture, model))
    found = loaded(path)
    assert found.tensors.keys() == model.tensors.keys()
    for name, value in model.tensors.items():
        torch.testing.assert_close(found.tensors[name], value, rtol=1e-6, atol=1e-6)
    bos = {"bos_token": None, "add_bos": False}
    assert vars(found.arch) | bos == vars(model.arch) | bos


def test_every_family_is_one_that_arch_knows():
    known = {name for spec in registry.SPECS for name in spec.gguf}
    assert known >= FAMILIES.keys()


@pytest.mark.parametrize(
    ("qtype", "dtype"),
    [("Q8_0", torch.float16), ("Q4_1", torch.float16), ("BF16", torch.bfloat16), ("F16", torch.float16)],
)
def test_packed_types(tmp_path, qtype, dtype):
    path, model, qtype = tmp_path / "tiny.gguf", tiny("llama"), GGMLQuantizationType[qtype]
    tensors = gguf_tensors("llama", model)
    write_gguf(path, "llama", metadata("llama", model), tensors, qtype=qtype)
    header = read_header(path)
    found = dict(hf_tensors(path, header, registry.find("llama"), {}))
    down = found["model.layers.1.mlp.down_proj.weight"]
    source = tensors["blk.1.ffn_down.weight"].numpy()
    exact = torch.from_numpy(gguf.dequantize(gguf.quantize(source, qtype), qtype))
    assert down.dtype == dtype
    assert (down.float() - exact).norm() <= 2**-11 * exact.norm()
    assert found["model.norm.weight"].dtype == torch.float32


def test_values_beyond_half_precision_stay_single(tmp_path):
    path, model = tmp_path / "tiny.gguf", tiny("llama")
    tensors = gguf_tensors("llama", model)
    tensors["blk.0.ffn_up.weight"] = torch.full((96, 64), 1e6)
    write_gguf(path, "llama", metadata("llama", model), tensors, qtype=GGMLQuantizationType.Q8_0)
    found = dict(hf_tensors(path, read_header(path), registry.find("llama"), {}))
    assert found["model.layers.0.mlp.up_proj.weight"].dtype == torch.float32
    assert found["model.layers.0.mlp.gate_proj.weight"].dtype == torch.float16


def config_of(tmp_path, architecture, *, extra_entries=None, extra_tensors=None, **overrides):
    path, model = tmp_path / "tiny.gguf", tiny(architecture, **overrides)
    entries = {**metadata(architecture, model), **(extra_entries or {})}
    tensors = {**gguf_tensors(architecture, model), **(extra_tensors or {})}
    write_gguf(path, architecture, entries, tensors)
    header = read_header(path)
    return hf_config(header, side_tables(path, header))


def test_llama3_scaling_is_recognized_by_its_table(tmp_path):
    table = torch.tensor(llama3_divisors(1e4, 16, 32.0))
    assert config_of(tmp_path, "llama", extra_tensors={LLAMA3_TABLE: table})["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


@pytest.mark.parametrize(
    "table", [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.0] * 8, [float("nan")] * 8, [float("inf")] * 8]
)
def test_other_tables_are_refused(tmp_path, table):
    with pytest.raises(CheckpointError, match="not that of Llama 3"):
        config_of(tmp_path, "llama", extra_tensors={LLAMA3_TABLE: torch.tensor(table)})


def test_longrope_and_linear_scaling(tmp_path):
    tables = {LONG_TABLE: torch.full((8,), 4.0), SHORT_TABLE: torch.ones(8)}
    entries = {"phi3.rope.scaling.original_context_length": 32, "phi3.rope.scaling.attn_factor": 1.5}
    config = config_of(tmp_path, "phi3", extra_entries=entries, extra_tensors=tables)
    assert config["original_max_position_embeddings"] == 32
    assert config["rope_scaling"] == {
        "rope_type": "longrope",
        "long_factor": [4.0] * 8,
        "short_factor": [1.0] * 8,
        "attention_factor": 1.5,
    }
    entries = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    assert config_of(tmp_path, "gemma3", extra_entries=entries)["rope_scaling"] == {
        "rope_type": "linear",
        "factor": 8.0,
    }


def test_largest_gemma_divides_scores_by_its_width(tmp_path):
    config = config_of(tmp_path, "gemma2", num_hidden_layers=46, hidden_size=32, intermediate_size=32, head_dim=16)
    assert config["query_pre_attn_scalar"] == 32 // 4


def test_unknown_architecture(tmp_path):
    write_gguf(tmp_path / "x.gguf", "mamba", {}, {"token_embd.weight": torch.ones(4, 4)})
    with pytest.raises(CheckpointError, match="'mamba' cannot be converted"):
        find_family(read_header(tmp_path / "x.gguf"))


def test_unknown_tensor_is_named(tmp_path):
    path, model = tmp_path / "tiny.gguf", tiny("llama")
    tensors = {**gguf_tensors("llama", model), "blk.0.ffn_gate_inp.weight": torch.ones(4, 4)}
    write_gguf(path, "llama", metadata("llama", model), tensors)
    with pytest.raises(CheckpointError, match=r"'blk.0.ffn_gate_inp.weight' is unknown to the family llama"):
        loaded(path)


@pytest.mark.parametrize(
    ("name", "value"), [("block_count", 0), ("attention.head_count", "nine"), ("embedding_length", -5.0)]
)
def test_bad_sizes_are_named(tmp_path, name, value):
    with pytest.raises(CheckpointError, match=f"llama.{name} is"):
        config_of(tmp_path, "llama", extra_entries={f"llama.{name}": value})


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A GGUF file with a byte-level tokenizer."""
    alphabet = sorted(gguf_alphabet())
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokens = ["<s>", *alphabet, "he", "ll"]
    model = tiny("llama", vocab_size=len(tokens))
    entries = {
        **metadata("llama", model),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }
    write_gguf(path, "llama", entries, gguf_tensors("llama", model), tokens=tokens, merges=["h e", "l l"])
    return path


def gguf_alphabet():
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel.alphabet()


def test_file_becomes_a_cached_folder_once(complete, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path))
    model = resolve(str(complete))
    assert model.source == str(complete)
    assert (model.arch.bos_token, model.arch.add_bos) == (0, True)
    tokenizer = Tokenizer.load(model.tokenizer_dir)
    assert tokenizer.decode(tokenizer.encode("hello 🙂")) == "hello 🙂"
    assert (tokenizer.bos, len(tokenizer.encode("hell"))) == (0, 2)
    monkeypatch.setattr("mobilequant.models.sources.gguf_file.convert", None)
    assert torch.equal(resolve(str(complete)).tensors["embed.weight"], model.tensors["embed.weight"])
    assert [folder.parent for folder in (tmp_path / "models").iterdir()] == [tmp_path / "models"]


def test_memory_is_checked_before_the_conversion(complete, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path))
    monkeypatch.setattr(resource.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr("mobilequant.models.sources.gguf_file.convert", None)
    with pytest.raises(ResourceError, match=f"converting {complete} needs about .* MB of memory"):
        resolve(str(complete))


def test_same_file_gives_the_same_bytes(complete, tmp_path):
    header = read_header(complete)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        convert(complete, header, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert "local" not in json.loads((tmp_path / "one" / "tokenizer_config.json").read_text())


def test_no_tokenizer_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "cache"))
    path, model = tmp_path / "tiny.gguf", tiny("llama")
    write_gguf(path, "llama", metadata("llama", model), gguf_tensors("llama", model))
    with pytest.raises(CheckpointError, match=r"tokenizer of tiny\.gguf cannot be converted: it holds none"):
        resolve(str(path))
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_truncated_file_tells_both_numbers(complete, tmp_path):
    content = complete.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:-1000])
    with pytest.raises(CheckpointError, match=rf"truncated: .* needs [\d,]+ bytes, {len(content) - 1000:,} found"):
        read_header(tmp_path / "cut.gguf")
    (tmp_path / "cut.gguf").write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="truncated"):
        read_header(tmp_path / "cut.gguf")


def text(value):
    return struct.pack("<Q", len(value)) + value


def image(*, entries=(), infos=(), num_entries=None, num_tensors=None, version=3, tail=bytes(64)):
    counts = struct.pack("<IQQ", version, num_tensors or len(infos), num_entries or len(entries))
    return b"GGUF" + counts + b"".join(entries) + b"".join(infos) + tail


def info(name=b"a", dims=(8,), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


HOSTILE = {
    "empty": b"",
    "other file": b"PK\x03\x04" + bytes(100),
    "version 1": image(version=1),
    "big-endian": image(version=3 << 24),
    "absurd count of tensors": image(num_tensors=2**63),
    "absurd count of entries": image(num_entries=2**40),
    "absurd string": image(entries=[struct.pack("<Q", 2**62) + b"key"]),
    "absurd array": image(entries=[text(b"key") + struct.pack("<IIQ", 9, 4, 2**61)]),
    "absurd array of strings": image(entries=[text(b"key") + struct.pack("<IIQ", 9, 8, 2**61)]),
    "array of arrays": image(entries=[text(b"key") + struct.pack("<IIQ", 9, 9, 1)]),
    "unknown type of value": image(entries=[text(b"key") + struct.pack("<II", 77, 0)]),
    "key twice": image(entries=[text(b"key") + struct.pack("<II", 4, 0)] * 2),
    "tensor twice": image(infos=[info(), info()]),
    "no dimensions": image(infos=[info(dims=())]),
    "many dimensions": image(infos=[info(dims=(1,) * 5)]),
    "dimension of zero": image(infos=[info(dims=(0, 8))]),
    "negative dimension": image(infos=[info(dims=(2**64 - 8,))]),
    "product overflow": image(infos=[info(dims=(2**31,) * 4)]),
    "unknown type of tensor": image(infos=[info(kind=999)]),
    "offset outside": image(infos=[info(offset=2**63)]),
    "row that cannot be packed": image(infos=[info(dims=(8,), kind=8)]),
    "alignment": image(entries=[text(b"general.alignment") + struct.pack("<II", 4, 3)], infos=[info()]),
    "alignment of zero": image(entries=[text(b"general.alignment") + struct.pack("<II", 4, 0)], infos=[info()]),
    "alignment by name": image(
        entries=[text(b"general.alignment") + struct.pack("<I", 8) + text(b"x")], infos=[info()]
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_header(tmp_path / "x.gguf")


def test_the_images_above_are_hostile_by_one_thing_only(tmp_path):
    (tmp_path / "x.gguf").write_bytes(image(entries=[text(b"key") + struct.pack("<II", 4, 7)], infos=[info()]))
    header = read_header(tmp_path / "x.gguf")
    assert header.metadata == {"key": 7}
    assert header.tensors["a"].shape == (8,)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_header(tmp_path / "x.gguf")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("gguf") / "small.gguf", tiny("llama", num_hidden_layers=1, vocab_size=8)
    write_gguf(path, "llama", metadata("llama", model), gguf_tensors("llama", model), qtype=GGMLQuantizationType.Q8_0)
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, 1800), st.integers(1, 255)), min_size=1, max_size=3), cut=st.integers(0, 99)
)
def test_damage_is_a_checkpoint_error_or_a_model(small, tmp_path, flips, cut):
    content = bytearray(small.read_bytes())
    for position, mask in flips:
        content[position] ^= mask
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content[: len(content) - cut * (cut % 2)])
    try:
        model = loaded(path)
    except CheckpointError:
        return
    assert np.isfinite(model.tensors["embed.weight"].numpy()).all()
