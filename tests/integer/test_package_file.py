"""What is saved is what is loaded; and whatever a stranger changes, a reader answers with PackageError or runs."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mobilequant.errors import PackageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import (
    GRAPH,
    MANIFEST,
    WEIGHTS,
    load_graph,
    read_manifest,
    save_graph,
    verify_files,
)
from mobilequant.integer.schema import validate

TOKENS = torch.tensor([4, 90, 4, 17])
FAMILIES = ["llama", "gemma2", "opt", "gpt_neox"]
SCHEME = "static_w4g16_a8_kv8"


@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip(name, original, tiny_graph):
    graph, loaded = tiny_graph(name, SCHEME), load_graph(original(name))
    assert replace(graph, constants={}) == replace(loaded, constants={})
    assert graph.constants.keys() == loaded.constants.keys()
    for key, constant in graph.constants.items():
        assert constant.dtype == loaded.constants[key].dtype
        assert constant.array.dtype == loaded.constants[key].array.dtype
        assert np.array_equal(constant.array, loaded.constants[key].array), key
    verify_files(original(name))
    assert read_manifest(original(name))["model"] == {"name": name}


def test_odd_columns_survive_packing(tmp_path, tiny_graph):
    graph = tiny_graph("llama", "static_w4c_a8_kv8")
    codes = np.array([[1, -8, 7]], dtype=np.int8)
    odd = replace(
        graph, constants={**graph.constants, "odd": replace(graph.constants["layers.0.q.codes"], array=codes)}
    )
    save_graph(odd, tmp_path)
    assert np.array_equal(load_graph(tmp_path).constants["odd"].array, codes)


def test_reading_a_package_needs_no_torch():
    code = "import sys, mobilequant.integer.package; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, MANIFEST])
def test_missing_file(name, package):
    (package / name).unlink()
    with pytest.raises(PackageError):
        open_everything(package)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, MANIFEST])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_file(name, data, package, original):
    content = (original("llama") / name).read_bytes()
    (package / name).write_bytes(content[: data.draw(st.integers(0, len(content) - 3))])
    with pytest.raises(PackageError):
        open_everything(package)
    (package / name).write_bytes(content)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bit_is_noticed_by_the_hash_and_harmless_without(name, data, package, original):
    content = bytearray((original("llama") / name).read_bytes())
    # The header of the weights and the whole graph are as likely as the far longer payload.
    end = data.draw(st.sampled_from([min(4000, len(content)), len(content)])) - 1
    content[data.draw(st.integers(0, end))] ^= 1 << data.draw(st.integers(0, 7))
    (package / name).write_bytes(content)
    with pytest.raises(PackageError, match="changed"):
        verify_files(package)
    runs_or_is_refused(package)
    (package / name).write_bytes((original("llama") / name).read_bytes())


HOSTILE = [None, True, -1, 0, 1, 3, 1 << 31, 1 << 63, 10**40, 0.5, 1e308, "", "x", "tokens", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_the_graph_replaced(name, data, tmp_path, original):
    shutil.copytree(original(name), tmp_path, dirs_exist_ok=True)
    graph = json.loads((tmp_path / GRAPH).read_text())
    node, key = graph, data.draw(st.sampled_from(sorted(graph)))
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 9)) > 0:
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(st.sampled_from(HOSTILE))
    (tmp_path / GRAPH).write_text(json.dumps(graph))
    runs_or_is_refused(tmp_path)


def runs_or_is_refused(folder):
    """Nothing but PackageError when it is read; and what could be read can be run."""
    try:
        graph = load_graph(folder)
    except PackageError as error:
        assert error.remedy
        return
    interpreter = Interpreter(graph)
    logits = interpreter.run(TOKENS[: graph.context - graph.num_prefix] % graph.vocab_size, interpreter.state())
    output = graph.tensors[graph.output]
    assert output.qmin <= logits.min() and logits.max() <= output.qmax


def open_everything(folder):
    read_manifest(folder)
    return load_graph(folder)


def op_of(graph, output):
    return next(op for op in graph["ops"] if op["output"] == output)


def tensor_of(graph, name):
    return next(tensor for tensor in graph["tensors"] if tensor["name"] == name)


def attribute(output, name, value):
    return lambda graph: op_of(graph, output)["attributes"].update({name: value})


def described(name, key, value):
    return lambda graph: tensor_of(graph, name).update({key: value})


def reads(output, *inputs):
    return lambda graph: op_of(graph, output).update(inputs=list(inputs))


GRAPH_EDITS = {
    "unknown kind": (lambda g: op_of(g, "embed").update(kind="magic"), "unknown kind"),
    "unknown key": (lambda g: g.update(more=1), "more"),
    "unknown key of a tensor": (lambda g: g["tensors"][0].update(more=1), "tensors.0.more"),
    "unknown key of an op": (lambda g: g["ops"][3].update(more=1), "ops.3.more"),
    "unknown key of a cache": (lambda g: g["caches"][0].update(more=1), "caches.0.more"),
    "unknown attribute": (attribute("layers.0.probs", "more", 1), "attributes"),
    "missing key": (lambda g: g.pop("context"), "context"),
    "float for an integer": (lambda g: g.update(context=8.0), "context"),
    "no constant of that name": (lambda g: g["constants"].pop("layers.0.q.codes"), "missing"),
    "constant without an array": (lambda g: g["constants"].update(x={"dtype": "int8", "shape": [1]}), "not in"),
    "unknown dtype": (lambda g: g["constants"]["embed.codes"].update(dtype="float32"), "dtype"),
    "other dtype": (lambda g: g["constants"]["embed.codes"].update(dtype="uint8"), "expected"),
    "absurd shape": (lambda g: g["constants"]["embed.codes"].update(shape=[1 << 40, 1 << 40]), "expected"),
    "absurd shape of 4-bit codes": (lambda g: g["constants"]["layers.0.q.codes"].update(shape=[1 << 62, 1]), "exp"),
    "4-bit codes of one dimension": (lambda g: g["constants"]["layers.0.q.codes"].update(shape=[1]), "expected"),
    "duplicate tensor": (lambda g: g["tensors"].append(g["tensors"][0]), "same name"),
    "tensor that nobody computes": (lambda g: g["tensors"].append({**g["tensors"][0], "name": "x"}), "same names"),
    "duplicate op": (lambda g: g["ops"].append(g["ops"][-1]), "twice"),
    "op before its input": (lambda g: g["ops"].reverse(), "before it is computed"),
    "no op": (lambda g: g.update(ops=[], tensors=[]), "output"),
    "output is the tokens": (lambda g: g.update(output="tokens"), "output"),
    "output is not logits": (lambda g: g.update(output="embed"), "vocabulary"),
    "output is a score": (lambda g: g.update(output="layers.0.scores"), "row of logits"),
    "linear reads tokens": (reads("layers.0.q", "tokens"), "tokens"),
    "embedding reads rows": (lambda g: g["ops"].append({**g["ops"][0], "inputs": ["logits"], "output": "x"}) or
                             g["tensors"].append({**g["tensors"][0], "name": "x"}), "tokens"),
    "linear reads scores": (reads("layers.0.o", "layers.0.scores"), "shape|cannot read"),
    "too many inputs": (reads("layers.0.q", "embed", "embed"), "1 inputs"),
    "values as wide as something else": (reads("layers.0.context", "layers.0.probs", "layers.0.q"), "channels"),
    "context of raw scores": (reads("layers.0.context", "layers.0.scores", "layers.0.v"), "cannot read"),
    "layer out of range": (attribute("layers.0.scores", "layer", 2), "layer"),
    "two ops fill one cache": (attribute("layers.0.scores", "layer", 1), "differ|caches"),
    "no heads": (attribute("layers.0.scores", "num_heads", 0), "heads"),
    "shift of 63": (attribute("layers.0.scores", "shift", 63), "shift"),
    "negative mantissa": (attribute("layers.0.scores", "mantissa", -1), "mantissa"),
    "windows that differ": (attribute("layers.0.probs", "window", 3), "window"),
    "sum beyond 32 bits": (attribute("layers.0.attn_residual", "shift_a", 2), "int32"),
    "accumulator bound too low": (attribute("layers.0.q", "accumulator_bound", 1), "accumulator"),
    "accumulator bound beyond 32 bits": (attribute("layers.0.q", "accumulator_bound", 1 << 31), "accumulator"),
    "groups of a norm": (attribute("layers.0.attn_norm", "group", 5), "group"),
    "huge epsilon": (attribute("layers.0.attn_norm", "epsilon", 1 << 61), "epsilon"),
    "heads of rope": (attribute("layers.0.q_rope", "head_dim", 6), "heads of 6"),
    "probabilities in other steps": (attribute("layers.0.probs", "one", 1), "one"),
    "missing attribute": (lambda g: op_of(g, "layers.0.probs")["attributes"].pop("one"), "attributes"),
    "zero point outside": (described("layers.0.q", "zero_point", 256), "zero point"),
    "keys not centred": (described("layers.0.k_rope", "zero_point", 127), "zero point 128"),
    "16 bits with a zero point": (described("embed", "zero_point", 1), "zero point is not 0"),
    "empty limits": (described("layers.0.q", "qmin", 300), "limits"),
    "other channels": (described("embed", "channels", 47), "shape"),
    "no channels": (described("embed", "channels", 0), "channels"),
    "scale of nothing": (described("embed", "scale", 0.0), "scale"),
    "vocabulary": (lambda g: g.update(vocab_size=95), "shape"),
    "rope table shorter than the context": (lambda g: g.update(context=65), "positions"),
    "huge context": (lambda g: g.update(context=10**30), "context"),
    "negative prefix": (lambda g: g.update(num_prefix=-1), "prefix"),
    "prefix longer than the cache entries": (lambda g: g.update(num_prefix=3, prefix_tokens=[1, 1, 1]), "cache"),
    "prefix token": (lambda g: g.update(prefix_tokens=[1, 96]), "prefix token"),
    "a cache fewer": (lambda g: g["caches"].pop(), "cache"),
    "cache without heads": (lambda g: g["caches"][0].update(num_kv_heads=0), "heads"),
}  # fmt: skip


@pytest.mark.parametrize("edit", GRAPH_EDITS)
def test_each_rule_refuses_what_breaks_it(edit, package, edit_json):
    change, message = GRAPH_EDITS[edit]
    edit_json(package / GRAPH, change)
    with pytest.raises(PackageError, match=message):
        load_graph(package)


def without_last(array):
    return np.ascontiguousarray(array[:-1])


ARRAY_EDITS = {
    "fewer rows": ("llama", "embed.codes", without_last),
    "another dtype": ("llama", "embed.mantissa", lambda a: a.astype(np.int64)),
    "real numbers": ("llama", "layers.0.q.codes", lambda a: a.astype(np.float32)),
    "packed rows too long": ("llama", "layers.0.q.codes", lambda a: np.concatenate([a, a], 1)),
    "a third dimension": ("llama", "layers.0.q.codes", lambda a: a[..., None]),
    "the code −128": ("llama", "embed.codes", lambda a: np.full_like(a, -128)),
    "a negative mantissa": ("llama", "layers.0.q.mantissa", lambda a: -a - 1),
    "a shift of one": ("llama", "layers.0.q.shift", np.ones_like),
    "a group multiplier of zero": ("llama", "layers.0.q.group_multiplier", np.zeros_like),
    "larger groups than were proved": ("llama", "layers.0.q.group_multiplier", lambda a: np.full_like(a, 255)),
    "the largest bias": ("opt", "layers.0.q.bias", lambda a: np.full_like(a, -(2**31))),
    "the largest bias of a norm": ("opt", "layers.0.attn_norm.bias", lambda a: np.full_like(a, 2**31 - 1)),
    "exponents that overflow a norm": ("llama", "residual.exponent", lambda a: np.full_like(a, 10)),
    "exponents that leave the shifts": ("llama", "embed.shift", lambda a: np.full_like(a, 62)),
    "an exponential of zero": ("llama", "softmax.exp2", np.zeros_like),
}


@pytest.mark.parametrize("edit", ARRAY_EDITS)
def test_each_array_is_held_against_the_graph(edit, original, tmp_path):
    name, constant, change = ARRAY_EDITS[edit]
    shutil.copytree(original(name), tmp_path, dirs_exist_ok=True)
    arrays = load_file(tmp_path / WEIGHTS)
    save_file({**arrays, constant: change(arrays[constant])}, tmp_path / WEIGHTS)
    with pytest.raises(PackageError):
        load_graph(tmp_path)


SHAPE_EDITS = [
    ("layers.0.q.group_multiplier", lambda a: np.ones((len(a), 7), a.dtype), "does not divide"),
    ("layers.0.q.shift", without_last, "shift has shape"),
    ("layers.0.attn_norm.gain", without_last, "gain has shape"),
    ("residual.exponent", without_last, "exponent has shape"),
    ("rope0.cos", without_last, "positions"),
    ("rope0.sin", without_last, "sin has shape"),
    ("softmax.exp2", without_last, "table has shape"),
    ("layers.0.act.table", without_last, "table has shape"),
    ("layers.0.prefix_keys", without_last, "cache constant"),
    ("lm_head.codes", without_last, "codes has shape"),
]


@pytest.mark.parametrize(("name", "change", "message"), SHAPE_EDITS)
def test_shapes_that_do_not_belong_together(name, change, message, tiny_graph):
    """Also where graph.json and the weights agree with each other."""
    graph = tiny_graph("llama", SCHEME)
    constant = graph.constants[name]
    changed = {**graph.constants, name: replace(constant, array=change(constant.array))}
    with pytest.raises(PackageError, match=message):
        validate(replace(graph, constants=changed))


DEEP = "[" * 100_000
GRAPH_TEXTS = [
    "",
    "null",
    "[]",
    "{}",
    DEEP,
    '{"tensors":' + DEEP,
    '{"context":' + "9" * 5000 + "}",
    "\xff\xfe",
    "{" * 9,
]


@pytest.mark.parametrize("text", GRAPH_TEXTS, ids=range(len(GRAPH_TEXTS)))
@pytest.mark.parametrize("name", [GRAPH, MANIFEST])
def test_text_that_is_no_graph_or_manifest(name, text, package):
    (package / name).write_text(text, encoding="latin-1")
    with pytest.raises(PackageError):
        open_everything(package)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(number, package):
    text, count = re.subn(r'"scale": [-+.e0-9]+', f'"scale": {number}', (package / GRAPH).read_text(), count=1)
    assert count == 1
    (package / GRAPH).write_text(text)
    with pytest.raises(PackageError, match="scale"):
        load_graph(package)


@pytest.mark.parametrize(("name", "key"), [(GRAPH, "context"), (GRAPH, "qmin"), (MANIFEST, "version")])
def test_a_name_that_stands_twice(name, key, package):
    text = (package / name).read_text()
    (package / name).write_text(text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1))
    with pytest.raises(PackageError, match=f"'{key}' stands there twice"):
        read_manifest(package) if name == MANIFEST else load_graph(package)


def test_an_array_that_stands_twice(package):
    content = (package / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    entry = json.dumps(json.loads(header)["embed.codes"]).encode()
    header = header[:-1] + b',"embed.codes":' + entry + b"}"
    (package / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(PackageError, match=r"'embed.codes' stands there twice"):
        load_graph(package)


def test_arrays_that_cannot_be_used_where_they_lie(package):
    content = (package / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    moved = (length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :]
    (package / WEIGHTS).write_bytes(moved)
    with pytest.raises(PackageError, match="does not begin at a multiple of its element's size"):
        load_graph(package)


def test_an_array_that_nobody_asked_for(package):
    save_file({**load_file(package / WEIGHTS), "more": np.zeros(3, np.int8)}, package / WEIGHTS)
    with pytest.raises(PackageError, match="'more', which is no constant"):
        load_graph(package)
