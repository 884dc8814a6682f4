"""Where two executors part: the right tensor, the right index, and nothing where they agree."""

import json
import zipfile

import numpy as np
import pytest

from mobilequant.engine.engine import Session, available_kernels
from mobilequant.errors import PackageError, ResourceError, UsageError
from mobilequant.integer.package import load_graph
from mobilequant.jobs.diff import diff, read_dump


@pytest.fixture(scope="module")
def dump(tiny_package, tmp_path_factory):
    """What the reference computes for three tokens."""
    path = tmp_path_factory.mktemp("dump") / "reference.npz"
    diff(tiny_package, left="reference", right="engine", tokens=[1, 2, 3], save=path)
    return path


def edited(dump, path, change):
    """A copy of a dump after ``change`` has edited its arrays."""
    arrays = dict(np.load(dump))
    change(arrays)
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("left", ["engine", *(f"engine:{name}" for name in available_kernels()), "reference"])
def test_executors_agree(tiny_package, left):
    found = diff(tiny_package, left=left, right="reference", text="hello")
    assert found["difference"] is None
    assert found["compared"] == len(load_graph(tiny_package).ops)
    assert found["only_left"] == found["only_right"] == []
    assert found["tokens"] == len("hello")


def test_a_dump_holds_every_tensor_in_running_order(tiny_package, dump):
    graph = load_graph(tiny_package)
    trace = read_dump(dump)
    assert trace.tokens == [1, 2, 3]
    assert list(trace.tensors) == [op.output for op in graph.ops]
    assert diff(tiny_package, left=str(dump), right="reference")["compared"] == len(graph.ops)


def test_the_first_difference_in_running_order(tiny_package, dump, tmp_path):
    def change(arrays):
        arrays["logits"][:] = 0
        arrays["layers.1.q"][1, 2] ^= 1
        arrays["layers.1.q"][2, 0] ^= 1

    other = edited(dump, tmp_path / "other.npz", change)
    right = read_dump(dump).tensors["layers.1.q"]
    found = diff(tiny_package, left=other, right=str(dump))["difference"]
    assert found == {
        "tensor": "layers.1.q",
        "kind": "linear",
        "left_shape": right.shape,
        "right_shape": right.shape,
        "codes": right.size,
        "different": 2,
        "index": (1, 2),
        "values": (right[1, 2] ^ 1, right[1, 2]),
    }


def test_the_order_is_that_of_the_left_side_and_names_may_be_missing(tiny_package, dump, tmp_path):
    def change(arrays):
        for name in [name for name in arrays if name not in ("tokens", "logits", "embed")]:
            arrays.pop(name)
        arrays["mine"] = np.zeros(3, np.int16)

    other = edited(dump, tmp_path / "other.npz", change)
    found = diff(tiny_package, left=other, right="reference")
    assert found["compared"] == 2
    assert found["only_left"] == ["mine"]
    assert "layers.0.q" in found["only_right"]
    assert found["difference"] is None


def test_shapes_that_differ(tiny_package, dump, tmp_path):
    other = edited(dump, tmp_path / "other.npz", lambda arrays: arrays.update(embed=arrays["embed"][:2]))
    found = diff(tiny_package, left=other, right="reference")["difference"]
    assert (found["tensor"], found["index"], found["different"]) == ("embed", None, None)
    assert found["left_shape"][0] == 2


def test_a_mistake_of_the_engine_is_found(tiny_package, monkeypatch):
    def broken(self, tokens, real=Session.trace):
        found = real(self, tokens)
        found[4] = (found[4][0], found[4][1] ^ 1)
        return found

    monkeypatch.setattr(Session, "trace", broken)
    found = diff(tiny_package, tokens=[1])["difference"]
    assert found["tensor"] == load_graph(tiny_package).ops[4].output
    assert found["different"] == found["codes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"left": "enigne"}, "no executor"),
        ({"left": "engine:sse"}, "kernels called 'sse'"),
        ({"left": "gone.npz"}, "cannot be read as a dump"),
        ({"tokens": []}, "no token"),
        ({"tokens": [260]}, "leave the vocabulary"),
        ({"tokens": [1], "text": "a"}, "both a text and token ids"),
        ({"text": "a\udcff"}, "no valid Unicode"),
        ({"tokens": [1] * 129}, "exceed the"),
    ],
    ids=str,
)
def test_what_cannot_be_compared(tiny_package, options, said):
    with pytest.raises(UsageError, match=said):
        diff(tiny_package, **options)


def test_dumps_of_other_tokens_or_other_graphs(tiny_package, dump, tmp_path):
    with pytest.raises(UsageError, match="other tokens"):
        diff(tiny_package, left=str(dump), tokens=[1, 2])
    with pytest.raises(UsageError, match="neither knows a tokenizer"):
        diff(tiny_package, left=str(dump), right=str(dump), text="a")
    np.savez(tmp_path / "other.npz", tokens=np.array([1, 2, 3]), x=np.zeros(3, np.int16))
    with pytest.raises(UsageError, match="no tensor in common"):
        diff(tiny_package, left=str(tmp_path / "other.npz"), right=str(dump))
    with pytest.raises(PackageError):
        diff(tmp_path, left=str(dump), right=str(dump))


def broken_dumps(folder):
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("no zip")
    np.savez(folder / "floats.npz", tokens=np.array([1]), x=np.zeros(3))
    np.savez(folder / "no-tokens.npz", x=np.zeros(3, np.int16))
    np.savez(folder / "objects.npz", tokens=np.array([1]), x=np.array([{}], dtype=object))
    with zipfile.ZipFile(folder / "files.npz", "w") as file:
        file.writestr("tokens.npy", json.dumps([1]))
    np.save(folder / "array.npz", np.zeros(3, np.int16))
    (folder / "array.npz.npy").rename(folder / "array.npz")
    return sorted(folder.iterdir())


def test_files_that_are_no_dump(tmp_path):
    for path in broken_dumps(tmp_path):
        with pytest.raises(UsageError, match=path.name):
            read_dump(path)


def test_a_dump_that_cannot_be_written(tiny_package, tmp_path):
    with pytest.raises(ResourceError, match="cannot write"):
        diff(tiny_package, tokens=[1], save=tmp_path / "no folder" / "dump.npz")
