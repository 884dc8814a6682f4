"""The Python face of the engine: the interpreter's logits, sessions, and clear errors."""

import json
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mobilequant.engine import _core, cores
from mobilequant.engine import engine as engine_module
from mobilequant.engine.cores import default_threads
from mobilequant.engine.engine import Engine, available_kernels
from mobilequant.engine.vocabulary import Vocabulary
from mobilequant.errors import PackageError, ResourceError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import load_graph, write_manifest
from mobilequant.jobs.reference import Reference

LENGTH = 40
TOKENS = np.random.default_rng(3).integers(0, 260, LENGTH)


@pytest.fixture(scope="module")
def expected(tiny_package):
    """The interpreter's logits (T, V) of TOKENS."""
    interpreter = Interpreter(load_graph(tiny_package))
    return interpreter.run(torch.from_numpy(TOKENS), interpreter.state()).numpy()


@pytest.fixture(scope="module")
def engine(tiny_package):
    return Engine.load(tiny_package, threads=2)


@pytest.fixture
def copy(tiny_package, tmp_path):
    """A package to spoil."""
    return shutil.copytree(tiny_package, tmp_path / "package")


@pytest.mark.parametrize("kernels", available_kernels())
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("split", [(LENGTH,), (LENGTH - 3, 1, 1, 1), (1,) * LENGTH, (17, 1, 22)], ids=str)
def test_logits_are_the_interpreters(tiny_package, expected, kernels, threads, split):
    engine = Engine.load(tiny_package, threads=threads, kernels=kernels)
    assert (engine.kernels, engine.threads) == (kernels, threads)
    session = engine.session()
    parts = [session.run(part) for part in np.split(TOKENS, np.cumsum(split)[:-1])]
    assert np.array_equal(np.concatenate(parts), expected)
    assert parts[0].dtype == np.int16


def test_only_the_last_logits(engine, expected):
    session = engine.session(LENGTH)
    assert session.room == LENGTH
    logits = session.run(list(map(int, TOKENS)), only_last=True)
    assert np.array_equal(logits, expected[-1:])
    assert session.room == 0
    assert session.position == LENGTH + len(engine.prefix_tokens)


def test_logits_outlive_engine_and_session(tiny_package, expected):
    logits = Engine.load(tiny_package, threads=2).session().run(TOKENS)
    assert np.array_equal(logits, expected)


def test_facts_are_those_of_the_graph(engine, tiny_package):
    graph = load_graph(tiny_package)
    assert engine.logits_scale == graph.tensors[graph.output].scale
    assert (engine.vocab_size, engine.context) == (graph.vocab_size, graph.context)
    assert tuple(engine.prefix_tokens) == graph.prefix_tokens


def test_a_capacity_beyond_the_context_is_the_context(engine):
    assert engine.session(10**30).room == engine.session().room == engine.context - len(engine.prefix_tokens)


def test_sessions_of_several_threads_do_not_mix(engine, expected):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: engine.session(LENGTH).run(TOKENS), range(32)))
    assert all(np.array_equal(logits, expected) for logits in found)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([], "no token"),
        ([1, 260], "leave the vocabulary of 260"),
        ([-1], "leave the vocabulary"),
        ([2**40], "leave the vocabulary"),
        ([2**70], "list of integers"),
        ([0.5], "list of integers"),
        ([[1]], "list of integers"),
        (["a"], "list of integers"),
        ([1] * 9, "exceed the room for 6"),
    ],
    ids=str,
)
def test_tokens_that_cannot_be_run_change_nothing(engine, tokens, said):
    session = engine.session(8)
    session.run([1, 2])
    for run in (session.run, session.trace):
        with pytest.raises(UsageError, match=said):
            run(tokens)
    assert session.room == 6
    assert np.array_equal(session.run([3]), engine.session().run([1, 2, 3])[-1:])


@pytest.mark.parametrize("kernels", available_kernels())
@pytest.mark.parametrize("split", [(LENGTH,), (20, 1, LENGTH - 21)], ids=str)
def test_traces_are_the_interpreters(tiny_package, kernels, split):
    sessions = [
        Engine.load(tiny_package, threads=2, kernels=kernels, traced=True).session(LENGTH),
        Reference.load(tiny_package).session(),
    ]
    for part in np.split(TOKENS, np.cumsum(split)[:-1]):
        ours, expected = (session.trace(part) for session in sessions)
        assert [name for name, _ in ours] == [name for name, _ in expected]
        for (name, codes), (_, truth) in zip(ours, expected, strict=True):
            assert codes.dtype == truth.dtype
            assert np.array_equal(codes, truth), name


def test_only_an_engine_that_was_loaded_for_it_shows_its_tensors(engine):
    with pytest.raises(UsageError, match="does not keep") as error:
        engine.session().trace([1])
    assert "traced=True" in error.value.remedy


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_session_needs_room(engine, capacity):
    with pytest.raises(UsageError, match="cannot have room"):
        engine.session(capacity)


@pytest.mark.parametrize("threads", [0, -1, 257, True, 1.5])
def test_numbers_of_threads_that_cannot_be_meant(tiny_package, threads):
    with pytest.raises(UsageError, match="cannot run with"):
        Engine.load(tiny_package, threads=threads)


def test_unknown_kernels_name_the_nearest(tiny_package):
    with pytest.raises(UsageError, match=r"called 'scaler'") as error:
        Engine.load(tiny_package, kernels="scaler")
    assert "Did you mean 'scalar'?" in error.value.remedy
    with pytest.raises(UsageError):
        Engine.load(tiny_package, kernels="")


def test_threads_that_the_system_refuses(tiny_package, monkeypatch):
    def refuse(*_arguments):
        raise RuntimeError("Resource temporarily unavailable")

    monkeypatch.setattr(_core, "Engine", refuse)
    with pytest.raises(ResourceError, match="temporarily unavailable"):
        Engine.load(tiny_package)


def test_slow_kernels_are_told(tiny_package, monkeypatch, caplog):
    def slow(folder, threads, _kernels, traced, real=_core.Engine):
        return real(folder, threads, "scalar", traced)

    Engine.load(tiny_package, kernels="scalar")  # who asks for them knows
    assert not caplog.records
    monkeypatch.setattr(engine_module._core, "Engine", slow)
    with caplog.at_level(logging.WARNING, "mobilequant"):
        Engine.load(tiny_package)
    assert "scalar kernels" in caplog.text


def test_no_package(tmp_path):
    with pytest.raises(PackageError, match="is not a MobileQuant package"):
        Engine.load(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json"])
def test_a_changed_byte_is_noticed(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} was changed") as error:
        Engine.load(copy)
    assert str(copy) in error.value.message
    assert "copy it again" in error.value.remedy


def test_another_version(copy):
    manifest = json.loads((copy / "package.json").read_text())
    (copy / "package.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(PackageError, match="version"):
        Engine.load(copy)


def rewrite(folder, name, text):
    """Change a file and make the manifest fit."""
    (folder / name).write_text(text)
    write_manifest(folder, json.loads((folder / "package.json").read_text()))


def test_a_changed_tokenizer_is_noticed(copy):
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + " ")
    engine = Engine.load(copy)
    assert engine.session().run([1]).shape == (1, 260)  # token ids need none
    with pytest.raises(PackageError, match=r"tokenizer\.json was changed"):
        engine.generate("abc")


def test_a_file_that_is_not_listed_is_not_read(copy):
    (copy / "generation_config.json").write_text('{"eos_token_id": 97}')
    with pytest.raises(PackageError, match="is not listed"):
        Engine.load(copy).generate("abc")


def test_no_tokenizer_and_a_damaged_one(copy):
    rewrite(copy, "tokenizer.json", "{}")
    with pytest.raises(PackageError, match="damaged"):
        Engine.load(copy).generate("abc")
    (copy / "tokenizer.json").unlink()
    rewrite(copy, "README.md", "")
    with pytest.raises(PackageError, match=r"has no tokenizer\.json"):
        Engine.load(copy).generate("abc")


def test_generation_ends_at_any_token_that_ends_a_text(copy):
    whole = "".join(Engine.load(copy).generate("abc", greedy=True, max_new_tokens=20))
    engine = Engine.load(copy)
    ids, ended = engine.vocabulary.encode("abc"), []
    while len(ended) < 3:
        ended.append(int(engine.session().run([*ids, *ended])[-1].argmax()))
    rewrite(copy, "generation_config.json", json.dumps({"eos_token_id": [257, ended[2]]}))
    cut = "".join(Engine.load(copy).generate("abc", greedy=True, max_new_tokens=20))
    assert cut == engine.vocabulary.tokenizer.decode(ended[: ended.index(ended[2])])
    assert whole.startswith(cut.rstrip("\ufffd"))
    assert cut != whole


def test_the_leading_token_is_read_unless_it_is_there(copy):
    manifest = json.loads((copy / "package.json").read_text())
    write_manifest(copy, {**manifest, "leading_token": 256})
    vocabulary = Engine.load(copy).vocabulary
    spelled = vocabulary.encode("abc")
    assert spelled[0] == 256
    assert vocabulary.encode("<bos>abc") == spelled
    assert vocabulary.encode_more("abc") == spelled[1:]


@pytest.mark.parametrize(("prefix", "held"), [((), False), ((256,), True), ((256, 5), True), ((5, 256), False)])
def test_a_leading_token_that_the_prefix_holds_is_not_read_again(tiny_package, prefix, held):
    vocabulary = Vocabulary.load(tiny_package, vocab_size=260, leading_token=256, prefix_tokens=prefix)
    letters = vocabulary.encode_more("abc")
    assert len(letters) == 3
    assert vocabulary.encode("abc") == vocabulary.encode("<bos>abc") == (letters if held else [256, *letters])


def test_running_a_package_needs_no_torch(tiny_package):
    code = f"""
import sys
from mobilequant import Engine
text = "".join(Engine.load({str(tiny_package)!r}, threads=1).generate("abc", max_new_tokens=4))
print([name for name in ("torch", "transformers", "pydantic", "jinja2") if name in sys.modules], len(text) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"
    assert done.stderr == ""


def test_threads_are_physical_cores_at_most_eight_unless_told(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    for nonsense in ("", "0", "-1", "4,2", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        monkeypatch.setattr(cores, "_allowed", lambda: list(range(8)))
        monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path)
        monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
        assert default_threads() == 8
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    assert default_threads() == 4
    for quota, expected in {"max 100000": 4, "250000 100000": 2, "5000 100000": 1, "nonsense": 4}.items():
        monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
        (tmp_path / "cpu.max").write_text(quota)
        assert default_threads() == expected
    monkeypatch.setattr(cores, "_allowed", lambda: [0, 4])
    assert default_threads() == 1
    monkeypatch.setattr(cores, "_allowed", lambda: list(range(100, 120)))
    assert default_threads() == 8
