"""The paper's ablations in its own simulation, on tiny models and the CPU."""

from __future__ import annotations

import json
import math

import pytest
import torch

import published_ablations
from mobilequant.arch import point
from mobilequant.arch.pair import scale_pairs
from mobilequant.methods.mobilequant import published_bits
from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS
from mobilequant.models import decoder
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import UINT8
from mobilequant.solvers.learned.pair_scale import PLAIN, PairScales
from mobilequant.solvers.trainer import TrainingError
from published.chart import chart
from published.cost import seconds, shared_seconds
from published.make import Bench, Windows, make
from published.row import WITHOUT_UP_TO_DOWN, Budget, Row, data, pieces, reference, untrained
from published.simulation import EVERYTHING, NOTHING, Learned, student
from published.table import effects, markdown
from published.text import opened

TOKENS = torch.randint(0, 96, (10, 12), generator=torch.Generator().manual_seed(2))
FAMILIES = {"smollm": "llama", "gemma": "gemma3_text"}
SMALL = ["--train-windows", "2", "4", "--epochs", "1", "--length", "12", "--device", "cpu"]


def bench_of(family):
    return Bench(tiny_model(family), Windows(TOKENS[:4], TOKENS[4:8], TOKENS[6:]))


@pytest.fixture(params=FAMILIES)
def bench(request):
    return bench_of(FAMILIES[request.param])


@pytest.fixture
def tiny(monkeypatch):
    asked = []

    def tiny_bench(name, _arguments):
        asked.append(name)
        return bench_of(FAMILIES[name])

    monkeypatch.setattr(published_ablations, "opened", tiny_bench)
    return asked


def run(tmp_path, *more):
    given = ["--models", *FAMILIES, *SMALL, "--results", str(tmp_path / "ablations.jsonl"), *more]
    return published_ablations.main(given)


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "ablations.jsonl").read_text().splitlines()]


def test_the_rows_are_those_of_the_paper():
    rows = pieces("m", "w8a8", Budget((8, 128), 2))
    names = [row.paper_name for row in rows if row.paper_name]
    smooth, omni = ([f"{name}-{kind}" for kind in ("Static", "Edge")] for name in ("SmoothQuant", "OmniQuant"))
    assert names == [*smooth, *omni, "OmniQuant-Edge + ranges", "MobileQuant"]
    assert len({row.title for row in rows}) == len(rows) == 10
    assert {row.steps for row in rows} == {0, 256}


def test_data_rows_have_equal_steps_or_equal_epochs():
    rows = data("m", "w4a8-sym", Budget((8, 32, 128), 2))
    assert len(rows) == len(set(rows)) == 10
    for objective in ("block-wise", "end-to-end"):
        mine = {(row.windows, row.epochs) for row in rows if row.objective == objective}
        assert mine == {(8, 32), (32, 8), (128, 2), (8, 2), (32, 2)}
    assert {row for row in rows if row.windows == 128} < set(pieces("m", "w4a8-sym", Budget((8, 32, 128), 2)))


def test_each_piece_changes_what_comes_out(bench):
    real = make(reference("m"), bench, 0)["ppl_wiki_all"]
    found = {row: make(row, bench, 0) for row in pieces("m", "w4a8-sym", Budget((4,), 2))}
    perplexities = [scores["ppl_wiki_all"] for scores in found.values()]
    assert all(map(math.isfinite, perplexities))
    assert len({real, *perplexities}) == len(perplexities) + 1
    trained = [scores for row, scores in found.items() if row.trained]
    assert all(scores["steps"] == 8 and math.isfinite(scores["loss_last"]) for scores in trained)


def test_only_what_is_learned_can_move(bench):
    start = bench.start(PUBLISHED_PAIRS)

    def kinds(learned):
        made = student(start, "w4a8-sym", learned)
        leaves = made.parameters(made.parts()[:-1])
        made.body(TOKENS).square().mean().backward()
        return {point.role_of(name) for name, leaf in leaves.items() if leaf.grad is not None and leaf.grad.any()}

    everything = {"free_scale", "high", "low", "scale", "offset"}
    assert kinds(EVERYTHING) == everything
    assert kinds(Learned(clipping=False)) == {"free_scale", "scale", "offset"}
    assert kinds(Learned(ranges=False)) == {"free_scale", "high", "low"}
    made = student(start, "w4a8-sym", Learned(WITHOUT_UP_TO_DOWN))
    assert not [name for name in made.parameters(made.parts()) if "up_to_down" in name]
    assert not student(start, "w8a8", NOTHING).transforms[0].parameters("layers.0")


def test_smoothing_without_up_to_down_leaves_down_as_it_is(bench):
    down, up, q = ("layers.1.down", "layers.1.up", "layers.1.q")
    half, whole = bench.start(WITHOUT_UP_TO_DOWN).model, bench.start(PUBLISHED_PAIRS).model
    assert torch.equal(half.weight(down), bench.model.weight(down))
    assert not torch.equal(whole.weight(down), bench.model.weight(down))
    assert not torch.equal(half.weight(q), bench.model.weight(q)) and not torch.equal(half.weight(up), whole.weight(up))
    assert bench.start(()).model is bench.model
    assert bench.start(PUBLISHED_PAIRS) is bench.start(PUBLISHED_PAIRS)


def test_pairs_leave_a_model_with_post_norms_head_norms_and_a_tied_head_as_it_is():
    model = tiny_model("gemma3_text")
    arch = model.arch
    assert arch.post_norms and arch.qk_norm and arch.tied_head
    scales = PairScales(arch, PUBLISHED_PAIRS, model.device, PLAIN)
    generator = torch.Generator().manual_seed(1)
    leaves = [leaf for part in point.parts(arch) for leaf in scales.parameters(part).values()]
    assert len(leaves) == 3 * arch.num_layers == sum(pair.kind in PUBLISHED_PAIRS for pair in scale_pairs(arch))
    with torch.no_grad():
        for leaf in leaves:
            leaf.copy_(0.5 + torch.rand(leaf.shape, generator=generator))
    changed = {name: value for part in point.parts(arch) for name, value in scales.rewrite(model.tensors, part).items()}
    assert {point.role_of(name.removesuffix(".weight")) for name in changed} == {
        *("attn_norm", "mlp_norm", "q", "k", "v", "gate", "up", "down")
    }
    found = decoder.forward(model.with_tensors(changed), TOKENS)
    torch.testing.assert_close(found, decoder.forward(model, TOKENS), rtol=1e-3, atol=1e-3)


def test_head_norms_have_8_bits_and_post_norms_are_float():
    arch = tiny_model("gemma3_text").arch
    formats = published_bits.activations(arch)
    assert formats["layers.0.q_norm"] == formats["layers.0.k_norm"] == UINT8
    assert not {name for name in formats if name.endswith("post_norm")}
    assert formats["layers.0.o"].num_bits == formats["layers.0.down"].num_bits == 16


def test_every_row_is_in_the_table_and_none_is_made_twice(tiny, tmp_path, capsys, monkeypatch):
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    rows = [row for name in FAMILIES for row in published_ablations.planned(name, published_ablations.parsed(SMALL))]
    assert len(lines(tmp_path)) == len(rows) == len(set(rows)) == 2 * (1 + 2 * 10 + 4)
    for row in rows:
        assert f"| {row.title} |" in said
    assert said.count("### ") == 4 and "not run yet" not in said
    assert "smollm: 25 of 25 rows" in said and "| up→down | smoothing |" in said
    assert "windows: 2 → 4" in said and "equal epochs" in said
    assert (tmp_path / "ablations-1.svg").read_text().startswith("<svg")

    monkeypatch.setattr(published_ablations, "make", lambda *_: pytest.fail("a row was made again"))
    tiny.clear()
    assert run(tmp_path) == 0
    again = capsys.readouterr().out
    assert not tiny and again.strip() == said[said.index("###") :].strip()


def test_what_is_left_is_made_later(tiny, tmp_path, capsys):
    more = ["--parts", "pieces", "--settings", "w8a8", "--models", "smollm"]
    assert run(tmp_path, *more, "--deadline", "-1") == 2
    said = capsys.readouterr().out
    assert said.count("no time") == said.count("not run yet") == 11
    assert not (tmp_path / "ablations-1.svg").exists() and not (tmp_path / "ablations.jsonl").exists()
    assert run(tmp_path, *more) == 0
    assert len(lines(tmp_path)) == 11
    assert run(tmp_path, *more, "--seed", "1") == 0
    assert len(lines(tmp_path)) == 22


def test_a_row_that_diverges_is_said_and_the_others_go_on(bench, monkeypatch):
    def broken(*_, **__):
        raise TrainingError("the loss is no number any more", "none")

    monkeypatch.setattr("published.make.train_blocks", broken)
    row, other = data("m", "w8a8", Budget((4,), 1))
    found = {each: make(each, bench, 0) for each in (reference("m"), row, other)}
    assert found[row] == {"failed": "the loss is no number any more"}
    rows = [reference("m"), row, other]
    assert "diverged" in markdown(rows, found) and "| end to end |" not in effects(rows, found, Budget((4,), 1))
    assert chart(rows, found, Budget((4,), 1)) is None


def test_more_steps_are_expected_to_take_longer(bench):
    rows = [Row("m", "w8a8", "end-to-end", windows=4, epochs=epochs) for epochs in (1, 10)]
    short, long = (seconds(row, bench.model, bench.windows) for row in rows)
    assert seconds(untrained("m", "w8a8", ()), bench.model, bench.windows) < short < long
    assert shared_seconds([reference("m")], bench.model, bench.windows) == 0
    assert shared_seconds(rows, bench.model, bench.windows) > 0


def test_windows_begin_with_the_token_that_the_family_wants():
    assert opened(TOKENS, None) is TOKENS
    assert torch.equal(opened(TOKENS, 7)[:, 1:], TOKENS) and (opened(TOKENS, 7)[:, 0] == 7).all()
