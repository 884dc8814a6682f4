"""Commands that run a package: their words, their exit codes, and what they say about bad input."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mobilequant.cli.chat import talk
from mobilequant.cli.main import main
from mobilequant.engine.engine import Engine
from mobilequant.errors import PackageError
from mobilequant.integer.package import write_manifest

TEMPLATE = "{% for m in messages %}<bos>{{ m.role[0] }}{{ m.content }}<eos>{% endfor %}<bos>a"


@pytest.fixture
def run(capsys, monkeypatch):
    """(arguments, what stands on standard input) → exit code, standard output, standard error."""

    def command(*arguments, given=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def talking(tiny_package, tmp_path):
    """A package with a chat template."""
    folder = shutil.copytree(tiny_package, tmp_path / "talking")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    write_manifest(folder, json.loads((folder / "package.json").read_text()))
    return folder


SAMPLINGS = {
    "greedy": ["--greedy"],
    "penalized": ["--greedy", "--repetition-penalty", 1.3],
    "drawn": ["--seed", 7, "--temperature", 1.5],
    "limited": ["--seed", 7, "--top-k", 9, "--top-p", 0.8],
}


@pytest.mark.parametrize("options", SAMPLINGS.values(), ids=SAMPLINGS)
def test_every_executor_writes_the_same_text(tiny_package, run, options):
    given = ("generate", tiny_package, "--prompt", "abc", "--max-new-tokens", 12, *options)
    texts = {run(*given, "--executor", "reference")}
    texts |= {run(*given, "--threads", threads, "--kernels", "scalar") for threads in (1, 3)}
    ((code, text, said),) = texts
    assert (code, said) == (0, "")
    assert text.startswith("abc")
    assert len(text) > len("abc\n")


def test_seeds_and_limits_change_the_text(tiny_package, run):
    given = ("generate", tiny_package, "--prompt", "abc", "--max-new-tokens", 12)
    assert len({run(*given, *options) for options in SAMPLINGS.values()}) == len(SAMPLINGS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threads", 0], "cannot run with 0 threads"),
        (["--kernels", "avx3"], "kernels called 'avx3'"),
        (["--executor", "enigne"], "Did you mean 'engine'"),
        (["--executor", "reference", "--kernels", "scalar"], "no kernels"),
        (["--executor", "engine", "--device", "cuda"], "does not run on 'cuda'"),
        (["--device", "abacus"], "cannot be used"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--temperature", 0], "temperature is 0"),
        (["--top-p", "inf"], "top_p is inf"),
        (["--top-k", -1], "top_k is -1"),
        (["--repetition-penalty", 0], "repetition_penalty is 0"),
        (["--prompt", ""], "prompt is empty"),
        (["--prompt", "a\udcff"], "no valid Unicode"),
        (["--prompt", "a" * 129], "only holds 128"),
        (["--max-new-tokens", 0], "Invalid value"),
    ],
    ids=str,
)
def test_requests_that_cannot_be_meant(tiny_package, run, options, said):
    code, text, error = run("generate", tiny_package, "--prompt", "abc", *options)
    assert (code, text) == (2, "")
    assert said in error


@pytest.mark.parametrize("command", ["generate", "chat", "bench", "diff"])
def test_damaged_packages(tiny_package, tmp_path, run, command):
    options = ["--prompt", "abc"] if command == "generate" else []
    code, text, said = run(command, tmp_path, *options)
    assert (code, text) == (7, "")
    assert "is not a MobileQuant package" in said
    folder = shutil.copytree(tiny_package, tmp_path / "package")
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    code, text, said = run(command, folder, *options)
    assert (code, text) == (7, "")
    assert "was changed" in said
    manifest = json.loads((folder / "package.json").read_text())
    (folder / "package.json").write_text(json.dumps({**manifest, "version": 2}))
    code, text, said = run(command, folder, *options)
    assert (code, text) == (7, "")
    assert "version" in said


def test_a_conversation_through_a_pipe(talking, run):
    options = ("--greedy", "--max-new-tokens", 5)
    code, both, said = run("chat", talking, *options, given="hi\n\n  and?  \n")
    assert (code, said) == (0, "")
    _, first, _ = run("chat", talking, *options, given="hi\n/exit\nand?\n")
    assert both.startswith(first)
    assert len(both) > len(first)
    _, again, _ = run("chat", talking, *options, given="hi\n/new\nhi")
    assert again == 2 * first


def test_a_full_context_offers_to_begin_again(talking, run):
    code, text, said = run("chat", talking, "--greedy", "--context", 20, given="hi\nand?\n/new\nhi\n")
    assert code == 0
    assert said.count("/new begins again") == 2
    assert "the context is full" in said
    half = text[: len(text) // 2]
    assert text == 2 * half


def test_a_package_without_chat_template(tiny_package, run):
    code, text, said = run("chat", tiny_package, given="hi\n")
    assert (code, text) == (2, "")
    assert "has no chat template" in said


def test_questions_that_are_no_text(talking):
    program = [sys.executable, "-X", "utf8", "-m", "mobilequant", "chat", str(talking)]
    done = subprocess.run(program, input=b"hi\xff\n", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"no valid Unicode" in done.stderr


def test_bench_as_json_and_as_table(tiny_package, run):
    sizes = ("--prompt", 8, "--decode", 2, "--context", 4, "--threads", 1, "--repeat", 1)
    code, text, _ = run("bench", tiny_package, *sizes, "--kernels", "scalar", "--format", "json")
    found = json.loads(text)
    assert code == 0
    assert {"prefill_tok_s", "decode_tok_s", "peak_memory_bytes", "load_ms", "package_bytes"} <= set(found)
    assert [found[name] for name in ("prompt", "decode", "context", "threads", "kernels")] == [8, 2, 4, 1, "scalar"]
    code, text, _ = run("bench", tiny_package, *sizes)
    assert code == 0
    assert "decode, 2 tokens behind 4" in text


def test_diff_tells_by_its_exit_code(tiny_package, tmp_path, run):
    dump = tmp_path / "dump.npz"
    code, text, _ = run(
        "diff", tiny_package, "--left", "reference", "--right", "engine", "--tokens", "1,2", "--save", dump
    )
    assert code == 0
    assert "every code is equal" in text
    arrays = dict(np.load(dump))
    arrays["embed"][1, 3] ^= 1
    np.savez(dump, **arrays)
    code, text, _ = run("diff", tiny_package, "--left", dump, "--format", "json")
    assert code == 9
    found = json.loads(text)["difference"]
    assert (found["tensor"], found["kind"], found["different"], found["index"]) == ("embed", "embedding", 1, [1, 3])
    code, text, _ = run("diff", tiny_package, "--left", dump)
    assert code == 9
    assert "(1, 3)" in text


@pytest.mark.parametrize("words", ["", "1,x", "1 2", "1.5"])
def test_words_that_are_no_token_ids(tiny_package, run, words):
    code, text, said = run("diff", tiny_package, "--tokens", words)
    assert (code, text) == (2, "")
    assert "no token ids" in said


def test_eval_by_either_executor_gives_the_same_scores(tiny_package, scoring_text, run):
    given = ("eval", tiny_package, "--text", scoring_text, "--window", 32, "--tokens", 62, "--format", "json")
    engine, reference = (json.loads(run(*given, "--executor", name)[1]) for name in ("engine", "reference"))
    assert engine.pop("executor") == "engine"
    assert reference.pop("executor") == "reference"
    assert engine == reference
    assert json.loads(run(*given)[1])["executor"] == "engine"


def test_eval_by_the_reference_leaves_the_engine_alone(tiny_package, scoring_text, run, monkeypatch):
    def refuse(*arguments, **options):
        raise PackageError("the engine was asked", "Do not.")

    monkeypatch.setattr(Engine, "load", refuse)
    given = ("eval", tiny_package, "--text", scoring_text, "--window", 32, "--tokens", 62)
    assert run(*given, "--executor", "reference")[0] == 0
    assert run(*given)[0] == PackageError.exit_code


def test_generating_loads_no_torch(tiny_package):
    code = f"""
import sys
from mobilequant.cli.chat import talk
from mobilequant.cli.main import main
assert main(["generate", {str(tiny_package)!r}, "--prompt", "abc", "--max-new-tokens", "2"]) == 0
print([name for name in ("torch", "transformers") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


class Stopped:
    """A conversation whose first answer is stopped by Ctrl-C."""

    room = 100

    def __init__(self):
        self.asked = []

    def answer(self, question):
        self.asked.append(question)
        yield "well"
        if len(self.asked) == 1:
            raise KeyboardInterrupt
        yield " then"


def test_ctrl_c_on_a_terminal_stops_only_the_answer(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    with pytest.raises(KeyboardInterrupt):
        talk(Stopped())
    lines = iter(["one", "two", "/exit"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(lines))
    capsys.readouterr()
    conversation = Stopped()
    talk(conversation)
    assert conversation.asked == ["one", "two"]
    assert capsys.readouterr().out == "well\nwell then\n"
