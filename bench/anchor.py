"""Is the faithful mode faithful? The published code's own run on SmolLM2-135M, repeated with ours.

    python bench/anchor.py --settings w8a8 w4a8-sym w4a8-asym --epochs 20 [--device cuda]

Same texts, windows, bit map, start, schedule and scoring as the run of the published code (saic-fi/MobileQuant, commit
8964f91); hashes of the windows are checked. Embedding, final norm, lm_head and residual additions are float: this is
the paper's simulation, not our integers. Prints perplexities beside the published code's, seconds per step and the
loss of each epoch, and adds a line per run to bench/results/anchor.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mobilequant.evaluate.protocol import ids_sha256
from mobilequant.methods.mobilequant.faithful import last_residuals, published_schedule
from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.workspace import Workspace
from mobilequant.solvers.end_to_end import match_hidden
from published.simulation import (
    FIRST_WINDOWS,
    FORMATS,
    Start,
    magnitudes,
    measured,
    perplexities,
    perplexity,
    smooth,
    student,
    window_losses,
)
from published.text import SEED, calibration, scored

Item = TypeVar("Item")
RESULTS = Path(__file__).parent / "results" / "anchor.jsonl"
_WARM_UP = 16  # steps
RANGE_SHA256 = "fa9fc9a6cd7074f8981c26a15f9d3762bcd649333e4d594a91c7c4d963a4a841"
TRAIN_SHA256 = "5ee8316fc1dbc7adb7810fe4dd3f684ec64aff1d28859dcece929aae0491f8e0"
# Perplexity of the published code on all 271 windows of wiki_squad, by setting and epochs.
PUBLISHED = {
    ("w8a8", 20): 26.82,
    ("w4a8-sym", 20): 44.33,
    ("w4a8-sym", 60): 37.02,
    ("w4a8-asym", 20): 35.70,
}


def main() -> None:
    """Run the settings that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--range-windows", type=int, default=512, help="fewer only to try the script")
    parser.add_argument("--train-windows", type=int, default=128, help="fewer only to try the script")
    parser.add_argument("--length", type=int, default=2048, help="shorter only to try the script")
    parser.add_argument("--work", type=Path, help="folder in which unfinished trainings survive a kill")
    arguments = parser.parse_args()
    model = resolve("smollm2-135m").to(device=arguments.device)
    tokenizer = Tokenizer.load(model.tokenizer_dir, num_rows=model.arch.vocab_size)
    on_range, on_training = calibration(tokenizer, arguments.length)
    if arguments.length == 2048:
        check_windows(on_range, on_training)
    on_range = on_range[: arguments.range_windows].to(arguments.device)
    on_training = on_training[: arguments.train_windows].to(arguments.device)
    on_scoring = scored(tokenizer).to(arguments.device)
    print(f"float: {perplexity(window_losses(model, None, on_scoring)):.2f} (published code 23.38)", flush=True)
    start = measured(smooth(model, magnitudes(model, on_range)), on_range)
    hidden = last_residuals(start.model, None, on_training)
    for setting in arguments.settings:
        memory = None
        if arguments.work:
            memory = Memory(arguments.work, f"{setting}-{arguments.epochs}", arguments.device)
        found = run(setting, arguments.epochs, start, on_training, hidden, on_scoring, memory)
        published = PUBLISHED.get((setting, arguments.epochs))
        print(json.dumps({**found, "published_ppl": published}, indent=1), flush=True)
        line = {**found, "published_ppl": published, "environment": environment().model_dump()}
        with RESULTS.open("a") as results:
            results.write(json.dumps(line) + "\n")


def check_windows(on_range: Tensor, on_training: Tensor) -> None:
    """Refuse windows that are not those of the published run."""
    for found, known in ((on_range, RANGE_SHA256), (on_training, TRAIN_SHA256)):
        if ids_sha256(found) != known:
            raise SystemExit(f"the windows are not those of the published run: {ids_sha256(found)}")


class Memory:
    """The state of one training in a folder."""

    def __init__(self, folder: Path, name: str, device: str) -> None:
        self._workspace, self._name, self._device = Workspace(folder), name, device

    def keep(self, state: Result) -> bool:
        self._workspace.save("anchor", self._name, state)
        return True

    def recall(self) -> Result | None:
        found = self._workspace.load("anchor", self._name)
        return None if found is None else found.to(self._device)


class Pace:
    """A progress that shows nothing and takes the time of a step, without the first ones: they compile and record."""

    def __init__(self) -> None:
        self.s_per_step: float | None = None

    def __call__(self, items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
        begun = 0.0
        for number, item in enumerate(items):
            if number == _WARM_UP:
                begun = time.perf_counter()
            yield item
        if total > _WARM_UP:  # the mean loss of the last epoch was waited for
            self.s_per_step = (time.perf_counter() - begun) / (total - _WARM_UP)


def run(
    setting: str,
    epochs: int,
    start: Start,
    tokens: Tensor,
    hidden: Tensor,
    on_scoring: Tensor,
    memory: Memory | None = None,
) -> dict[str, object]:
    """Train one setting and score it."""
    num_bits, symmetric = FORMATS[setting]
    trained = student(start, setting)
    schedule = published_schedule(epochs, num_bits, symmetric=symmetric)
    before = perplexity(window_losses(start.model, trained, on_scoring[:FIRST_WINDOWS]))
    order, pace = torch.Generator().manual_seed(SEED), Pace()
    history = match_hidden(trained, tokens, hidden, schedule, order=order, memory=memory, track=pace)
    return {
        "setting": setting,
        "epochs": epochs,
        "ppl_wiki_40_before": before,
        **perplexities(start.model, trained, on_scoring),
        "s_per_step": pace.s_per_step,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if tokens.is_cuda else None,
        "loss": history.training,
    }


if __name__ == "__main__":
    main()
