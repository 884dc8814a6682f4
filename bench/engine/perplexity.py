"""The perplexity of every row on the real model: a speed without it means little.

    PYTHONPATH=bench python -m engine.perplexity [--system llama.cpp …]

The protocol is the project's (``evaluate.protocol``): the first 40 windows of 512 tokens of wiki_squad, 511 predictions
each, without BOS for this model. Ours and the float model's come from ``mobilequant eval``. Adds a line for each row
that is not there yet to bench/results/engine_perplexity.jsonl.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.results import PERPLEXITY, append, lines
from engine.row import Variant
from engine.shapes import REAL, SHAPES
from engine.systems import SYSTEMS
from engine.systems.system import System
from engine.token_file import SCORED, WINDOW, scored_file
from mobilequant.pipeline.environment import environment

FLOAT = "float"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="only these")
    parser.add_argument("--results", type=Path, default=PERPLEXITY)
    arguments = parser.parse_args(given)
    for name in arguments.system or SYSTEMS:
        system = SYSTEMS[name]()
        system.prepare(SHAPES[REAL])
        for variant in system.variants:
            done = {(line["system"], line["variant"]) for line in lines(arguments.results)}
            if (name, variant.name) not in done:
                for line in scored(system, variant):
                    print(f"{line['system']} {line['variant']}: {line['ppl']:.3f}", file=sys.stderr)
                    append(arguments.results, line)


def scored(system: System, variant: Variant) -> Iterator[dict[str, Any]]:
    """The line of a row, and of the float model where the system measures that as well.

    Raises:
        ValueError: the system chose other windows.
    """
    ids, sha256 = scored_file()
    found = system.nll(SHAPES[REAL], variant, ids, WINDOW)
    if found.get("ids_sha256", sha256) != sha256:
        raise ValueError(f"{variant.title} was scored on other tokens")
    for name, title, key in ((system.name, variant.name, "nll"), (FLOAT, "", "float_nll")):
        if key in found:
            yield {
                "system": name,
                "variant": title,
                "ppl": perplexity(found[key], found["predictions"]),
                "predictions": found["predictions"],
                "text": SCORED,
                "window": WINDOW,
                "ids_sha256": sha256,
                "environment": environment().model_dump(),
            }


def perplexity(nll: float, predictions: float) -> float:
    """Of a sum over predictions, in nats."""
    return math.exp(nll / predictions)


if __name__ == "__main__":
    main()
