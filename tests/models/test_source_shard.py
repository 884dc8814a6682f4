import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from mobilequant.errors import CheckpointError
from mobilequant.models.sources.shard import INDEX, open_shard, open_shards

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(4, dtype=torch.bfloat16)}


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.fixture
def sharded(tmp_path):
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "x-1.safetensors")
    save_file({"b.weight": TENSORS["b.weight"]}, tmp_path / "x-2.safetensors")
    write_index(tmp_path, {"a.weight": "x-1.safetensors", "b.weight": "x-2.safetensors"})
    return tmp_path


def assert_equal(found):
    assert dict(found).keys() == TENSORS.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )


def test_sharded(sharded):
    assert_equal(open_shards(sharded))


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors"])
def test_single_file(tmp_path, name):
    save_file(TENSORS, tmp_path / name)
    assert_equal(open_shards(tmp_path))


def test_several_files_need_an_index(sharded):
    (sharded / INDEX).unlink()
    with pytest.raises(CheckpointError, match=f"2 .safetensors files but no {INDEX}"):
        open_shards(sharded)


def test_missing_shard_is_named(sharded):
    (sharded / "x-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shard x-2\.safetensors .* is missing"):
        open_shards(sharded)


def test_tensor_missing_from_its_shard_is_named(sharded):
    write_index(sharded, {"a.weight": "x-1.safetensors", "b.weight": "x-1.safetensors"})
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'b\.weight'"):
        open_shards(sharded)


@pytest.mark.parametrize(
    "shard", ["../x-1.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x.safetensors", 3, "x.bin"]
)
def test_index_cannot_point_elsewhere(sharded, shard):
    write_index(sharded, {"a.weight": shard})
    with pytest.raises(CheckpointError, match=r"no \.safetensors file of this folder"):
        open_shards(sharded)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', "[]", "{", '{"weight_map": {}, "weight_map": {}}'])
def test_bad_index(sharded, content):
    (sharded / INDEX).write_text(content)
    with pytest.raises(CheckpointError):
        open_shards(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="is a pickle") as caught:
        open_shards(tmp_path)
    assert "safetensors" in caught.value.remedy


def test_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_shards(tmp_path)


def raw(header, data=b""):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "absurd header": struct.pack("<Q", 2**63) + b"{}",
    "header past the end": struct.pack("<Q", 100) + b"{}",
    "no JSON": raw(b"{{{{"),
    "deep": raw(b'{"a":' + b"[" * 50_000),
    "twice": raw(b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2), bytes(4)),
    "negative dimension": raw({"a": {**ENTRY, "shape": [-1]}}, bytes(4)),
    "product overflow": raw({"a": {**ENTRY, "shape": [2**40, 2**40]}}, bytes(4)),
    "wrong size": raw({"a": {**ENTRY, "shape": [2]}}, bytes(4)),
    "data missing": raw({"a": ENTRY}, bytes(3)),
    "offsets outside": raw({"a": {**ENTRY, "data_offsets": [400, 404]}}, bytes(4)),
    "unknown type": raw({"a": {**ENTRY, "dtype": "F33"}}, bytes(4)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        open_shards(tmp_path)


INTACT = save(TENSORS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, len(INTACT) - 1), st.integers(1, 255)), max_size=3), cut=st.integers(0, 40)
)
def test_damage_is_a_checkpoint_error_or_harmless(tmp_path, flips, cut):
    content = bytearray(INTACT)
    for position, mask in flips:
        content[position] ^= mask
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[: len(content) - cut])
    try:
        shards = open_shards(tmp_path)
        for name in shards:
            assert isinstance(shards[name], torch.Tensor)
    except CheckpointError:
        return
    assert cut == 0


def test_unreadable_place(tmp_path):
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        open_shard(tmp_path / "nothing.safetensors")
