"""One real model from its name to integers, against the numbers in smollm2-135m.yaml."""

import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml

from mobilequant.cli.main import main
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.evaluate.score import score
from mobilequant.integer.interpreter import Interpreter
from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.executor import fake_quant_executor, float_executor
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import prepare
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.recipe import Recipe
from mobilequant.pipeline.scheme import Scheme
from native_engine import KERNELS, Native, Reference

pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]  # the first test makes and scores the package

MODEL = "smollm2-135m"
NUMBERS = yaml.safe_load(Path(__file__).with_name(f"{MODEL}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    recipe = Recipe.model_validate(NUMBERS["recipe"])
    return prepare(MODEL, recipe, out=tmp_path_factory.mktemp("smollm2") / "package")


@pytest.fixture(scope="module")
def outcome(job):
    return job.run()


@pytest.fixture(scope="module")
def scores(outcome):
    protocol = NUMBERS["protocol"]
    return evaluate(outcome.package, text=protocol["text"], window=protocol["window"], tokens=protocol["predictions"])


@pytest.fixture(scope="module")
def tokens(job):
    """The first two windows of 256 tokens of the scoring text."""
    ids = Tokenizer.load(job.model.tokenizer_dir).encode(load_text(NUMBERS["protocol"]["text"]).content[:20_000])
    return windows(ids, window=256, count=2, seed=None)


@pytest.mark.parametrize("executor", NUMBERS["expected"])
def test_perplexity(scores, executor):
    expected = NUMBERS["expected"][executor]
    assert scores["protocol"]["predictions"] == NUMBERS["protocol"]["predictions"]
    assert scores[executor]["ppl"] == pytest.approx(expected["ppl"], rel=expected["tolerance"])


def test_the_integer_model_follows_its_simulation(scores):
    assert scores["integer"]["ppl"] == pytest.approx(scores["fake_quant"]["ppl"], rel=NUMBERS["fake_quant_to_integer"])
    assert scores["integer"]["kl"] == pytest.approx(scores["fake_quant"]["kl"], rel=0.1)


def test_no_float_operation_is_left(outcome):
    found = inspect(outcome.package)
    assert found["float_ops"] == 0
    assert found["sixteen_bit_inputs"] == sorted(NUMBERS["recipe"]["sixteen_bit"]["points"])
    assert 8 < found["bits_per_weight"] < 8.2


def test_prefill_and_decode_give_identical_integers(outcome, tokens):
    interpreter = Interpreter(open_package(outcome.package).graph)
    whole = interpreter.run(tokens[0, :16], interpreter.state())
    state = interpreter.state()
    one_by_one = torch.cat([interpreter.run(tokens[0, t : t + 1], state) for t in range(16)])
    assert torch.equal(whole, one_by_one)


def test_the_engine_gives_the_interpreters_logits(outcome, tokens):
    """All kernels: 37 tokens at once and 3 one by one, and the same text with every tensor in sight."""
    reference = Reference(open_package(outcome.package).graph, tokens[0, :40].tolist())
    for kernels, threads in itertools.product(KERNELS, (1, 2)):
        reference.require_equal_logits(Native(outcome.package, kernels, threads), [37, 1, 1, 1])
    reference.require_equal_trace(Native(outcome.package, KERNELS[0], 2, keep_all=True))


def test_static_ranges_need_the_prefix(job, outcome, tokens):
    methods = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    executors = {"float": float_executor(job.model, None, None)}
    for name, prefix in {"without": (), "with": outcome.quantized.prefix.tokens}.items():
        quantized = run_methods(job.model, Scheme(8), methods, job.windows[:2], prefix=prefix)
        executors[name] = fake_quant_executor(quantized, None)
    found = score(executors, tokens, bos=None)
    assert found["without"]["ppl"] >= NUMBERS["sink"]["without_to_with_at_least"] * found["with"]["ppl"]


def test_the_command_generates_the_same_text_twice(outcome, capsys):
    words = ["generate", str(outcome.package), "--prompt", "The capital of France is", "--max-new-tokens", "8"]
    texts = []
    for _ in range(2):
        assert main([*words, "--greedy"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]


def test_the_package_tells_nothing_of_this_machine(outcome):
    manifest = json.loads((outcome.package / "package.json").read_text())
    assert manifest["model"]["name"] == MODEL
    for path in outcome.package.glob("*.*"):
        if path.suffix in (".json", ".yaml", ".md") and path.name != "tokenizer.json":
            assert str(outcome.package.parent) not in path.read_text(encoding="utf-8")
            assert str(Path.home()) + "/" not in path.read_text(encoding="utf-8")
