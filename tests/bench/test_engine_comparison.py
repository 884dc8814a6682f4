"""The comparison of our engine with others: what is computed from samples, and what is read from programs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import interleave, random_model
from engine.chart import chart
from engine.instructions import per_token, total
from engine.limits import decode_bytes, decode_share, prefill_share
from engine.perplexity import perplexity
from engine.priority import Ticks
from engine.results import append, lines
from engine.row import SCENARIOS, Case
from engine.sample import run_timed
from engine.shapes import SHAPES
from engine.summary import Spread, beside, ratio, rows
from engine.systems import SYSTEMS
from engine.systems.gguf_file import gguf_name, interleaved
from engine.systems.llama_cpp import LlamaCpp
from engine.systems.mobilequant import MobileQuant
from engine.systems.system import last_object
from engine.table import instruction_table, markdown, median_limits, spelled
from mobilequant.arch.registry import find
from mobilequant.errors import ResourceError
from mobilequant.models.canonical import expected_shapes

REAL = SHAPES["smollm2-135m"]


def line(system: str, variant: str, number: int, *, scenario: str = "512", run: str = "first", **measured: float):
    case = Case("smollm2-135m", system, variant, 2, scenario)
    return {**case.key(), "run": run, "round": number, "seconds": 3.0, **measured}


SAMPLES = [
    *(line("MobileQuant", "W4A8", i, prefill_tok_s=2000 + i, decode_tok_s=400 + i) for i in (0, 1, 2)),
    *(line("llama.cpp", "Q4_0 pure", i, prefill_tok_s=1000.0, decode_tok_s=200.0) for i in (0, 1, 2)),
    line("llama.cpp", "Q4_0 pure", 0, scenario="4096", decode_tok_s=100.0),
    line("ONNX Runtime", "static W8A8", 0, prefill_tok_s=4000.0, decode_tok_s=100.0, load_ms=5.0),
    line("MobileQuant", "W4A8", 0, run="other", prefill_tok_s=1.0),
]


def test_medians_are_taken_over_the_rounds_of_one_run():
    ours, llama, onnx = rows(SAMPLES, "first")
    assert ours.measured["prefill_tok_s"] == Spread(2001, 2000, 2002, 3)
    assert llama.speed("decode_4096_tok_s") == 100.0 and ours.speed("decode_4096_tok_s") is None
    assert onnx.measured["load_ms"].rounds == 1


def test_ratios_are_to_the_named_row_and_to_the_best_of_all():
    found = rows(SAMPLES, "first")
    ours = found[0]
    assert ratio(ours, beside(ours, found, "llama.cpp", "Q4_0 pure"), "prefill_tok_s") == 2.001
    assert ratio(ours, beside(ours, found), "prefill_tok_s") == 2001 / 4000
    assert ratio(ours, beside(ours, found), "decode_tok_s") == 401 / 200
    assert ratio(ours, beside(ours, found, "llama.cpp", "Q8_0"), "decode_tok_s") is None


def test_a_table_and_a_chart_come_of_it():
    limits = median_limits(
        [
            {"limits": [{"threads": 2, "int8_gops": 900.0 + i, "read_gb_s": 40.0, "read_76mb_gb_s": 50.0}]}
            for i in (0, 2)
        ]
    )
    assert limits[2]["int8_gops"] == 901
    found = rows(SAMPLES, "first")
    text = markdown(found, limits, {("MobileQuant", "W4A8"): 27.5})
    assert "| MobileQuant W4A8 | 2001 (2000–2002) | 401 (400–402) | – |" in text and "27.50" in text
    assert "| smollm2-135m, W4A8, 2 threads | best peer | 0.50× | 2.00× | – |" in text
    assert chart(found, {("MobileQuant", "W4A8"): 27.5}).startswith("<svg")
    assert spelled(None) == "–" and spelled(Spread(12.34, 9.99, 15.5, 3)) == "12.3 (10.0–15.5)"


def test_instructions_are_those_of_the_tokens_alone():
    few, many = total("==1== # Total instructions: 700\n"), total("# Total instructions: 1500\n")
    assert per_token(few, many, 4, 12) == 100
    with pytest.raises(ValueError, match="did not say"):
        total("valgrind: no such tool")
    table = instruction_table([{"row": "MobileQuant W4A8", "prompt": 2.5e6, "decode": 30.04e6}])
    assert table.endswith("| MobileQuant W4A8 | 2.5 | 30.0 |")


def test_shares_of_the_roofline():
    variant = LlamaCpp().variant("Q8_0")
    limit = {"int8_gops": 1000.0, "read_gb_s": 40.0, "read_76mb_gb_s": 80.0}
    assert decode_bytes(REAL, variant) == pytest.approx(142.9e6, rel=1e-3)
    assert decode_share(REAL, variant, 40e9 / decode_bytes(REAL, variant), limit) == pytest.approx(1)
    small = LlamaCpp().variant("Q4_0 pure")
    assert decode_share(REAL, small, 80e9 / decode_bytes(REAL, small), limit) == pytest.approx(1)
    assert prefill_share(REAL, 1e12 / (2 * REAL.linear_weights), limit) == pytest.approx(1)


def test_every_round_takes_each_case_once_and_a_run_goes_on():
    cases = interleave.all_cases(["smollm2-135m"], {"llama.cpp": LlamaCpp()}, [1, 2], ["512"])
    assert [case.threads for case in cases] == [1, 1, 1, 2, 2, 2]
    done = [{**cases[0].key(), "run": "first", "round": 0, "seconds": 4.0}]
    assert interleave.waiting(cases, done, "first", 0) == cases[1:]
    assert interleave.waiting(cases, done, "other", 0) == cases
    assert interleave.waiting(cases, done, "first", 1) == cases[::-1]
    assert interleave.seconds_for(cases[:2], done) == 8.0 and interleave.seconds_for(cases, []) == 0


def test_times_are_kept_with_five_digits_and_counts_whole():
    kept = interleave.rounded({"load_ms": 188.123456, "decode_tok_s": 0.00123456, "bytes": 123456789, "real": True})
    assert kept == {"load_ms": 188.12, "decode_tok_s": 0.0012346, "bytes": 123456789, "real": True}


def test_half_a_line_is_none(tmp_path):
    path = tmp_path / "results.jsonl"
    assert lines(path) == []
    append(path, {"a": 1})
    path.open("a").write('{"a": 2, "b"')
    append(path, {"a": 3})
    assert lines(path) == [{"a": 1}, {"a": 3}]


def test_what_llama_bench_prints():
    prompt = json.dumps({"n_prompt": 512, "n_gen": 0, "avg_ts": 1000.5})
    decode = json.dumps({"n_prompt": 0, "n_gen": 128, "avg_ts": 200.25})
    found = LlamaCpp().read([f"{prompt}\n", f"noise\n{decode}\n", '{"load_ms": 12.5, "nll": 0, "predictions": 0}'])
    assert found == {"prefill_tok_s": 1000.5, "decode_tok_s": 200.25, "load_ms": 12.5}
    with pytest.raises(ValueError, match="no JSON object"):
        last_object("nothing here")


def test_our_command_is_a_template():
    system = MobileQuant("engine {package} -p {prompt} -d {decode} -t {threads}")
    variant = system.variant("W8A8")
    (short,) = system.commands(REAL, variant, 2, SCENARIOS["512"])
    assert short == ["engine", str(system.package(REAL, variant)), *["-p", "512", "-d", "128", "-t", "2"]]
    (longer,) = system.commands(REAL, variant, 1, SCENARIOS["4096"])
    assert longer[-2:] == ["--context", "4096"]
    assert system.read(['{"prefill_tok_s": 9, "decode_tok_s": 3, "other": 1}']) == {
        "prefill_tok_s": 9,
        "decode_tok_s": 3,
    }


def test_a_process_is_measured_and_a_failure_is_told():
    ended = run_timed([sys.executable, "-c", "x = bytearray(50_000_000); print(len(x))"])
    assert ended.output == "50000000\n" and ended.cpu_s > 0
    assert 50e6 < ended.peak_memory_bytes < 90e6  # not that of this process, which is several times as big
    with pytest.raises(ResourceError, match="code 3"):
        run_timed([sys.executable, "-c", "raise SystemExit(3)"])


def test_how_busy_the_machine_was():
    before = Ticks.parse("cpu 100 0 50 800 50 0 0 0 0 0\ncpu0 …")
    after = Ticks.parse("cpu 150 0 75 825 50 0 0 0 7 0\n")
    assert before == Ticks(150, 1000) and after.share_since(before) == 0.75


def test_perplexity_is_of_the_mean():
    assert perplexity(20.0 * math.log(7), 20) == pytest.approx(7)


def test_all_runtimes_sum_the_same_likelihood():
    path = Path(interleave.__file__).parent / "inside"
    sys.path.insert(0, str(path))
    try:
        from nll import nll
    finally:
        sys.path.remove(str(path))
    logits, targets = torch.randn(5, 11, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 10, 4, 4])
    expected = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum")
    assert nll(logits.numpy(), targets.numpy()) == pytest.approx(float(expected))


def test_rows_of_heads_are_interleaved_for_llama_cpp():
    rows_of_heads = torch.arange(8.0)[:, None].expand(8, 2)
    assert interleaved(rows_of_heads, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert gguf_name("model.layers.12.mlp.down_proj.weight") == "blk.12.ffn_down.weight"
    assert gguf_name("model.embed_tokens.weight") == "token_embd.weight"


def test_the_random_model_has_the_shape_that_is_said():
    config = random_model.Config(hidden=32, inner=48, layers=2, heads=4, kv_heads=2, vocab=40, context=64)
    tensors = random_model.random_tensors(config)
    count = sum(tensor.numel() for tensor in tensors.values())
    arch = find("llama").resolve(config.as_json())
    assert count == sum(int(np.prod(shape)) for shape in expected_shapes(arch).values())
    arch = find("llama").resolve(random_model.LLAMA_1B.as_json())
    shapes = {name: math.prod(shape) for name, shape in expected_shapes(arch).items() if len(shape) == 2}
    assert shapes.pop("lm_head.weight") == SHAPES["llama-1.1b"].head_weights
    shapes.pop("embed.weight")
    assert sum(shapes.values()) == SHAPES["llama-1.1b"].linear_weights


def test_a_cut_tokenizer_keeps_only_what_it_can_make():
    vocab = {"a": 0, "b": 1, "ab": 2, "c": 3, "abc": 4}
    whole = {"added_tokens": [{"id": 0}, {"id": 9}], "model": {"vocab": vocab, "merges": ["a b", ["ab", "c"]]}}
    found = random_model.cut(whole, 4)
    assert found["model"] == {"vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]}
    assert found["added_tokens"] == [{"id": 0}]


def test_the_limit_program_compiles_for_old_processors_too(tmp_path):
    source = Path(interleave.__file__).with_name("limits.cpp")
    for flags in ([], ["-march=native"]):
        command = ["g++", "-std=c++17", "-Wall", "-Werror", *flags, "-fsyntax-only", str(source)]
        subprocess.run(command, check=True)


def test_every_system_has_its_formats():
    titles = [variant.title for system in SYSTEMS.values() for variant in system.variants]
    assert len(titles) == len(set(titles)) == 10
