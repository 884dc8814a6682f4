"""Time all rows side by side: every round takes each of them once, so that what the machine does hits all alike.

    PYTHONPATH=bench python -m engine.interleave [--run NAME] [--rounds 5] [--threads 1 --threads 2]
        [--shape smollm2-135m …] [--system llama.cpp …] [--scenario 512 …] [--mobilequant 'TEMPLATE']

Raw samples go to bench/results/engine_samples.jsonl as they come; the same call again goes on behind the last one.
What the machine can do at most (limits.cpp) is measured in every round too. ``engine.table`` prints what came out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from engine.limits import measured_limits
from engine.priority import prefix
from engine.results import LIMITS, SAMPLES, append, lines
from engine.row import SCENARIOS, Case
from engine.sample import sample
from engine.shapes import SHAPES
from engine.systems import SYSTEMS
from engine.systems.mobilequant import TEMPLATE, MobileQuant
from engine.systems.system import System
from mobilequant.errors import MobileQuantError
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.quantity import duration


def main(given: Sequence[str] | None = None) -> None:
    arguments = parsed(given)
    systems = {name: SYSTEMS[name]() for name in arguments.system or SYSTEMS}
    if MobileQuant.name in systems:
        systems[MobileQuant.name] = MobileQuant(arguments.mobilequant)
    shapes, threads = arguments.shape or list(SHAPES), arguments.threads or [1, 2]
    for shape in shapes:
        for system in systems.values():
            system.prepare(SHAPES[shape])
    if not prefix():
        _say("the priority cannot be raised here: every sample waits until the machine is idle")
    cases = all_cases(shapes, systems, threads, arguments.scenario or list(SCENARIOS))
    machine = environment()
    stamp = {"run": arguments.run, "commit": machine.commit}
    for number in range(arguments.rounds):
        this = {**stamp, "round": number}
        if not any(in_round(line, arguments.run, number) for line in lines(arguments.limits)):
            append(arguments.limits, {**measured_limits(threads), **this, "environment": machine.model_dump()})
        for case in waiting(cases, lines(arguments.samples), arguments.run, number):
            _take(case, systems[case.system], this, arguments.samples)
            to_go = left(cases, arguments.rounds, arguments.run, lines(arguments.samples))
            _say(f"  round {number + 1} of {arguments.rounds}, {to_go} to go")


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="first", help="samples are compared within a run only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--system", action="append", choices=SYSTEMS)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--limits", type=Path, default=LIMITS)
    parser.add_argument("--mobilequant", default=TEMPLATE, help="the command of our engine")
    return parser.parse_args(given)


def all_cases(
    shapes: Iterable[str], systems: Mapping[str, System], threads: Iterable[int], scenarios: Iterable[str]
) -> list[Case]:
    """In the order of a round: rows that are compared with each other follow each other."""
    return [
        Case(shape, name, variant.name, count, scenario)
        for shape in shapes
        for scenario in scenarios
        for count in threads
        for name, system in systems.items()
        for variant in system.variants
    ]


def waiting(cases: Sequence[Case], done: Iterable[Mapping[str, Any]], run: str, number: int) -> list[Case]:
    """Those without a sample in this round; every other round begins at the end."""
    there = [line for line in done if in_round(line, run, number)]
    ordered = cases if number % 2 == 0 else cases[::-1]
    return [case for case in ordered if not any(case.key().items() <= line.items() for line in there)]


def in_round(line: Mapping[str, Any], run: str, number: int) -> bool:
    return line.get("run") == run and line.get("round") == number


def left(cases: Sequence[Case], rounds: int, run: str, found: Iterable[Mapping[str, Any]]) -> str:
    """How long the rest will take, told from the samples that are there."""
    done = [line for line in found if line["run"] == run]
    missing = [case for number in range(rounds) for case in waiting(cases, done, run, number)]
    return f"{len(missing)} samples, {duration(seconds_for(missing, done))}"


def seconds_for(missing: Sequence[Case], done: Sequence[Mapping[str, Any]]) -> float:
    """Each as long as it took before; what has not run yet, as long as the others on average."""
    typical = mean(line["seconds"] for line in done) if done else 0.0
    total = 0.0
    for case in missing:
        before = [line["seconds"] for line in done if case.key().items() <= line.items()]
        total += median(before) if before else typical
    return total


def _take(case: Case, system: System, stamp: Mapping[str, Any], samples: Path) -> None:
    """A sample that fails is told and left out; the next call tries it again."""
    title = f"{case.shape} {case.system} {case.variant}, {case.threads} threads, context {case.scenario}"
    try:
        found = sample(case, system)
    except (MobileQuantError, ValueError) as error:
        _say(f"{title} FAILED: {error}")
        return
    append(samples, {**case.key(), **rounded(found), **stamp})
    speeds = (f"{found[name]:.1f} {name}" for name in ("prefill_tok_s", "decode_tok_s") if name in found)
    _say(f"{title}: {', '.join(speeds)}")


def rounded(found: Mapping[str, Any]) -> dict[str, Any]:
    """Times and rates with five digits, of which the machine repeats two."""
    return {name: float(f"{each:.5g}") if isinstance(each, float) else each for name, each in found.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
