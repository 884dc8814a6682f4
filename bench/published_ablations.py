"""The ablations of the MobileQuant paper (arXiv 2408.13933, Tables 1 to 3), repeated in the paper's own simulation.

    python bench/published_ablations.py --device cuda [--models smollm2-135m] [--deadline 540]

Setting as in bench/anchor.py: bit map of the paper, embedding and lm_head in float, SmoothQuant with alpha one half,
ranges from least to largest value, training on speeches, scores on wiki_squad. Two departures: ranges come from 64
windows in place of 512, and where a model's tokenizer puts BOS first, so does every window here (without it the float
Gemma is hardly a language model; the paper goes without).

    --parts pieces    each piece of the method taken away, at the most training windows
    --parts data      block by block against end to end, by number of training windows; 4-bit weights, as there

``published/row.py`` says which rows these are and what the paper varies. --epochs is how often the most windows are
seen. Prints the plan with its time first, then each row; adds a line per row to bench/results/published_ablations.jsonl
as it ends, and does no row again that is there. Draws the data rows as published_ablations-EPOCHS.svg, and ends with a
table.
Training is chaotic on these models: below 5 % a difference needs more seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.atomic_file import write_text
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.quantity import duration
from published.chart import chart
from published.cost import seconds, shared_seconds
from published.make import Bench, Windows, make
from published.row import Budget, Row, data, pieces, reference
from published.simulation import FORMATS
from published.table import effects, markdown
from published.text import RANGE_WINDOWS, SEED, TRAINING_WINDOWS, calibration, scored

RESULTS = Path(__file__).parent / "results" / "published_ablations.jsonl"
PARTS = {"pieces": pieces, "data": data}


def main(given: Sequence[str] | None = None) -> int:
    """0 when every row is there, 2 when the deadline left some out."""
    arguments = parsed(given)
    end = time.monotonic() + arguments.deadline
    results, left = Results(arguments.results, protocol(arguments)), 0
    wanted: list[Row] = []
    for model in arguments.models:
        rows = planned(model, arguments)
        wanted += rows
        left += make_all(rows, results, arguments, end)
    found = {row: scores for row in wanted if (scores := results.found(row)) is not None}
    drawing = chart(wanted, found, arguments.budget)
    if drawing:
        write_text(arguments.results.with_name(f"{arguments.results.stem}-{arguments.epochs}.svg"), drawing)
    print(f"\n{markdown(wanted, found)}\n\n{effects(wanted, found, arguments.budget)}", flush=True)
    return 2 if left else 0


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["smollm2-135m", "gemma3-270m"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--settings", nargs="+", choices=FORMATS, default=["w8a8", "w4a8-sym"], help="of the pieces")
    parser.add_argument("--data-settings", nargs="+", choices=FORMATS, default=["w4a8-sym"], help="the paper's: 4 bits")
    parser.add_argument("--train-windows", nargs="+", type=int, default=[8, 32, TRAINING_WINDOWS])
    parser.add_argument("--epochs", type=int, default=2, help="how often the most windows are seen")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a window for ranges and training")
    parser.add_argument("--range-windows", type=int, default=64, help=f"at most {RANGE_WINDOWS}")
    parser.add_argument("--scored-windows", type=int, help="all, unless given")
    parser.add_argument("--seed", type=int, default=SEED, help="of the order in which training windows are seen")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds; no row begins that passes it")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(given)
    arguments.budget = Budget(tuple(arguments.train_windows), arguments.epochs)
    return arguments


def planned(model: str, arguments: argparse.Namespace) -> list[Row]:
    """The rows of a model, each once; those of one setting together."""
    budget, rows = arguments.budget, [reference(model)]
    settings = {"pieces": arguments.settings, "data": arguments.data_settings}
    for setting in FORMATS:
        for part in arguments.parts:
            rows += PARTS[part](model, setting, budget) if setting in settings[part] else []
    return list(dict.fromkeys(rows))


def protocol(arguments: argparse.Namespace) -> dict[str, Any]:
    """What makes the same row another measurement."""
    names = ("length", "range_windows", "scored_windows", "seed")
    return {name: getattr(arguments, name) for name in names}


class Results:
    """Lines on disk: one for each row and protocol that is done."""

    def __init__(self, path: Path, protocol: dict[str, Any]) -> None:
        self.path, self.protocol = path, protocol
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self._environment = environment().model_dump()
        self._lines = [json.loads(line) for line in text.splitlines()]

    def found(self, row: Row) -> dict[str, Any] | None:
        known = {**row.key(), **self.protocol}
        return next((line for line in self._lines if known.items() <= line.items()), None)

    def add(self, row: Row, scores: dict[str, Any], device: str) -> None:
        line = {**row.key(), **self.protocol, **scores, "device": device, "environment": self._environment}
        self._lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def make_all(rows: Sequence[Row], results: Results, arguments: argparse.Namespace, end: float) -> int:
    """Make what is missing of one model, as long as there is time; the number of rows for which there was none."""
    missing = [row for row in rows if results.found(row) is None]
    if not missing:
        return 0
    bench = opened(rows[0].model, arguments)
    expected = {row: seconds(row, bench.model, bench.windows) for row in missing}
    shared = shared_seconds(missing, bench.model, bench.windows)
    steps = sum(row.steps for row in missing)
    total = duration(shared + sum(expected.values()))
    print(f"{rows[0].model}: {len(missing)} of {len(rows)} rows, {steps:,} steps, about {total}", flush=True)
    left = 0
    for number, row in enumerate(missing, start=1):
        place = f"[{number}/{len(missing)}] {row.model} {row.setting}: {row.title}"
        place += f", {row.windows} × {row.epochs}" if row.trained else ""
        if time.monotonic() + expected[row] > end:
            left += 1
            print(f"{place}: no time, it needs about {duration(expected[row])}", flush=True)
            continue
        begun = time.monotonic()
        scores = make(row, bench, arguments.seed)
        results.add(row, scores, arguments.device)
        said = scores.get("failed") or f"{scores['ppl_wiki_all']:.2f}"
        print(f"{place}: {said}, {duration(time.monotonic() - begun)}", flush=True)
    return left


def opened(name: str, arguments: argparse.Namespace) -> Bench:
    """The model and its windows."""
    device, model = arguments.device, resolve(name).to(device=arguments.device)
    tokenizer = Tokenizer.load(model.tokenizer_dir, num_rows=model.arch.vocab_size)
    bos = model.arch.leading_token
    on_range, on_training = calibration(tokenizer, arguments.length, max(arguments.train_windows), bos)
    on_scoring = scored(tokenizer, arguments.scored_windows, bos)
    windows = Windows(on_range[: arguments.range_windows].to(device), on_training.to(device), on_scoring.to(device))
    return Bench(model, windows)


if __name__ == "__main__":
    raise SystemExit(main())
