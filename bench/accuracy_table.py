"""What static integer quantization costs: models × recipes × seeds, the integer model beside float, on two texts.

    python bench/accuracy_table.py --work DIR
    python bench/accuracy_table.py --work DIR --models smollm2-135m --recipes w4a8-fast w4a8-best
        --seeds 0 1 2 --devices cuda:0 cuda:1 --parallel 2 --tasks all --documents 500 --deadline 3000

One command from a bare machine: models and texts are fetched, and every row is a package that is quantized and scored
by the code of the command line, in a process of its own, with a log beside it. A seed is that of the calibration and
training windows; 0 is the recipe as it stands, RECIPE@S has the windows of seed S alone. A row that extends another
(stage C) is made behind it, in the same process, and shares its training. Told again after a kill or a
deadline, it reads finished rows back and goes on with the others where they were; with --deadline 0 it only reads.

Prints a line per finished row and a Markdown table per model, and writes both down behind every row:
RESULTS/accuracy_<model>.json, in which rows of other runs stay, and RESULTS/accuracy_<model>.md. Exits with 1 when a
row failed, with 2 when some were not begun.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from accuracy.row import Row, Scoring, rows
from accuracy.run import Crew
from accuracy.table import losses, markdown
from mobilequant.data.task import VARIANTS
from mobilequant.errors import MobileQuantError
from mobilequant.pipeline.atomic_file import write_text
from mobilequant.pipeline.quantity import duration, size

HERE = Path(__file__).parent
MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")
BASELINES = ("rtn-w8a8", "smoothquant-w8a8", "rtn-w4a8", "smoothquant-w4a8", "faithful-w8a8", "faithful-w4a8")
PRESETS = ("w8a8-fast", "w4a8-fast", "w4g64a8-fast")
TRAINED = ("w8a8-best", "w4a8-best", "w4g64a8-best", "w4a8-tuned")


def main(given: Sequence[str] | None = None) -> int:
    """Run all rows that are asked for, or, as a worker, one."""
    arguments = parsed(given)
    scoring = Scoring(
        tuple(arguments.texts), arguments.tokens, arguments.window, _tasks(arguments.tasks), arguments.documents
    )
    if arguments.row:
        return worker(arguments, scoring)
    wanted = rows(arguments.models, arguments.recipes, arguments.seeds)
    missing = [row for row in wanted if row.found(arguments.work, scoring) is None]
    beginnings = {row: other for row in missing for other in wanted if row.extends(other)}
    crew = Crew(
        lambda row, device: _command(row, beginnings.get(row), device, arguments),
        lambda row: _log(row, arguments.work),
        arguments.devices,
        arguments.parallel,
        time.monotonic() + arguments.deadline,
    )
    table = Table(wanted, scoring, arguments.work, arguments.results)
    for row, scores in table.found():
        crew.pace.learn(row.cost(scoring), sum(scores["run"]["seconds"].values()))
        table.report(row, done=True)
    alone = [row for row in missing if row not in beginnings.values()]

    def report(row: Row, done: bool) -> None:
        beginning = beginnings.get(row)
        if beginning in missing and beginning.found(arguments.work, scoring):
            table.report(beginning, done=True)
        table.report(row, done=done)

    not_begun = crew.run([(row, row.cost(scoring)) for row in alone], report)
    left = [each for row in not_begun for each in (beginnings.get(row), row) if each in missing]
    for row in left:
        print(f"not begun: {Path(row.model).name} {row.title}", flush=True)
    print("".join(f"\n{text}" for text in table.written()), flush=True)
    return 1 if table.failed else 2 if left else 0


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--recipes", nargs="+", default=[*BASELINES, *PRESETS, *TRAINED])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, required=True, help="packages and unfinished work (large)")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--devices", nargs="+", default=["cpu"])
    parser.add_argument("--parallel", type=int, default=1, help="rows at a time on each device")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds; none begins that would pass it")
    parser.add_argument("--texts", nargs="+", default=["wiki_squad", "brown"])
    parser.add_argument("--tokens", type=int, default=20_440)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--tasks", nargs="+", default=[], help="zero-shot tasks, or: all")
    parser.add_argument("--documents", type=int, default=500, help="of each task")
    parser.add_argument("--row", nargs=2, metavar=("MODEL", "RECIPE"), help="make this row alone, in this process")
    parser.add_argument("--begins-as", metavar="RECIPE", help="and in front of it the row that it extends")
    return parser.parse_args(given)


def worker(arguments: argparse.Namespace, scoring: Scoring) -> int:
    """One row, with phases and measures of the methods on standard output."""
    from accuracy.make import make

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("mobilequant").setLevel(logging.INFO)
    model, name = arguments.row
    begins_as = Row(model, arguments.begins_as) if arguments.begins_as else None
    try:
        make(Row(model, name), scoring, arguments.work, arguments.devices[0], begins_as)
    except MobileQuantError as error:
        print(f"{error.message}. {error.remedy}", flush=True)  # the last line is what the table shows
        return error.exit_code
    return 0


class Table:
    """The rows that there are, on the screen and on disk."""

    def __init__(self, wanted: Sequence[Row], scoring: Scoring, work: Path, results: Path) -> None:
        self.wanted, self.scoring, self.work, self.results = wanted, scoring, work, results
        self.failed: list[Row] = []
        self._reported = 0

    def found(self) -> list[tuple[Row, dict[str, Any]]]:
        pairs = ((row, row.found(self.work, self.scoring)) for row in self.wanted)
        return [(row, scores) for row, scores in pairs if scores is not None]

    def report(self, row: Row, *, done: bool) -> None:
        """One line; and the files, since the next moment may be the last."""
        self._reported += 1
        place = f"[{self._reported}/{len(self.wanted)}] {Path(row.model).name} {row.title}"
        scores = row.found(self.work, self.scoring)
        if not done or scores is None:
            self.failed.append(row)
            log = _log(row, self.work)
            print(f"{place}: FAILED, see {log}: {''.join(log.read_text().splitlines()[-1:])}", flush=True)
            return
        said = ", ".join(f"{text} {loss:+.1f} %" for text, loss in losses(scores).items())
        seconds, peak = sum(scores["run"]["seconds"].values()), scores["run"]["device_peak_bytes"]
        print(f"{place}: {said}; {duration(seconds)}{f', {size(peak)}' if peak else ''}", flush=True)
        self.written()

    def written(self) -> list[str]:
        """The Markdown of each model, which is also written down."""
        texts = []
        for model, group in groupby(self.found(), key=lambda each: each[0].model):
            name, pairs = Path(model).name, list(group)
            path = self.results / f"accuracy_{name}.json"
            others = json.loads(path.read_text()) if path.exists() else {}
            merged = {**others, **{row.title: scores for row, scores in pairs}}
            write_text(path, json.dumps(merged, indent=1) + "\n")
            texts.append(markdown(name, pairs))
            write_text(path.with_suffix(".md"), texts[-1])
        return texts


def _log(row: Row, work: Path) -> Path:
    return row.folder(work) / "log.txt"


def _tasks(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(VARIANTS) if list(given) == ["all"] else tuple(given)


def _command(row: Row, beginning: Row | None, device: str, arguments: argparse.Namespace) -> list[str]:
    words = [sys.executable, __file__, "--row", row.model, row.name, "--devices", device, "--work", arguments.work]
    words += ["--tokens", arguments.tokens, "--window", arguments.window, "--documents", arguments.documents]
    words += ["--texts", *arguments.texts, *(["--tasks", *arguments.tasks] if arguments.tasks else [])]
    words += ["--begins-as", beginning.name] if beginning else []
    return [str(word) for word in words]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers end too
    sys.exit(main())
