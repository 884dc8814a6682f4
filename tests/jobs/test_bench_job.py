"""What a measurement runs and tells; how fast is nobody's promise here."""

import json
import subprocess
import sys

import pytest

from mobilequant.engine.engine import Session
from mobilequant.errors import UsageError
from mobilequant.integer.package import load_graph
from mobilequant.jobs import measure
from mobilequant.jobs.bench import bench, bits_per_weight, peak_memory_bytes


@pytest.fixture
def lengths(monkeypatch):
    """How many tokens every call of a session reads, and where it begins."""
    seen = []

    def run(self, tokens, *, only_last=False, real=Session.run):
        assert only_last
        seen.append((self.position, len(tokens)))
        return real(self, tokens, only_last=only_last)

    monkeypatch.setattr(Session, "run", run)
    return seen


def decoded(first, count):
    return [(first + step, 1) for step in range(count)]


def test_decoding_follows_the_prompt(tiny_package, lengths):
    found = bench(tiny_package, prompt=20, decode=3, repeat=2, threads=1)
    start = load_graph(tiny_package).num_prefix
    once = [(start, 20), *decoded(start + 20, 3)]
    assert lengths == once * 3  # the first is the warm-up
    assert found["context"] == found["prompt"] == 20
    assert len(found["runs"]) == 2


def test_decoding_behind_another_context(tiny_package, lengths):
    start = load_graph(tiny_package).num_prefix
    assert bench(tiny_package, prompt=5, decode=2, context=30, repeat=1)["context"] == 30
    assert lengths == [(start, 5), (start, 30), *decoded(start + 30, 2)] * 2
    lengths.clear()
    bench(tiny_package, prompt=5, decode=2, context=0, repeat=1)
    assert lengths == [(start, 5), *decoded(start, 2)] * 2


def test_what_is_told(tiny_package):
    found = bench(tiny_package, prompt=8, decode=4, threads=2, kernels="scalar", repeat=3, seed=7)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["kernels"], found["threads"], found["seed"]) == ("scalar", 2, 7)
    middle = sorted(run["prefill_ms"] for run in found["runs"])[1]
    assert found["prefill_tok_s"] == pytest.approx(8 / middle * 1000)
    middle = sorted(run["decode_ms"] for run in found["runs"])[1]
    assert found["decode_tok_s"] == pytest.approx(4 / middle * 1000)
    assert found["load_ms"] > 0
    stored = sum(path.stat().st_size for path in tiny_package.iterdir() if path.name != "package.json")
    assert found["package_bytes"] == stored
    assert found["scheme"] == "static_w8c_a8_kv8"


def test_bits_are_counted_as_everywhere(tiny_package, tiny_recipe, tiny_checkpoint, tmp_path):
    from mobilequant.jobs.quantize import quantize

    tiny_recipe.write_text(tiny_recipe.read_text().replace("static_w8c_a8_kv8", "static_w4g16_a8_kv8"))
    for folder in (tiny_package, quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "grouped")):
        graph = json.loads((folder / "graph.json").read_text())
        assert bits_per_weight(graph) == measure.bits_per_weight(load_graph(folder))


def test_peak_memory_is_this_processes_own():
    code = "from mobilequant.jobs.bench import peak_memory_bytes as peak; print(peak())"
    small = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 5e6 < small < 100e6  # this process, which started it, has torch and is larger
    assert peak_memory_bytes() > small


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": 0}, "prompt is 0"),
        ({"decode": 0}, "decode is 0"),
        ({"repeat": 0}, "repeat is 0"),
        ({"context": -1}, "context is -1"),
        ({"prompt": 120, "decode": 20}, "do not fit into the context"),
        ({"prompt": 8, "decode": 20, "context": 120}, "do not fit"),
        ({"threads": 0}, "cannot run with"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_meant(tiny_package, options, said):
    with pytest.raises(UsageError, match=said):
        bench(tiny_package, **options)


def test_it_loads_nothing_heavy(tiny_package):
    code = f"""
import sys
from mobilequant.cli.main import main
assert main(["bench", {str(tiny_package)!r}, "--prompt", "8", "--decode", "2", "--format", "json"]) == 0
heavy = ("torch", "rich", "tokenizers", "jinja2", "safetensors", "psutil")  # pydantic comes with typer
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert json.loads(done.stdout)["peak_memory_bytes"] < 150e6
