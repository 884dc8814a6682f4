"""The numbers of a run as Markdown: one table for each model and number of threads, and one of ratios.

PYTHONPATH=bench python -m engine.table [--run NAME]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from engine.limits import decode_share, prefill_share
from engine.results import INSTRUCTIONS, LIMITS, PERPLEXITY, SAMPLES, lines
from engine.row import Variant
from engine.shapes import REAL, SHAPES
from engine.summary import OURS, Row, Spread, beside, ratio, rows
from engine.systems import SYSTEMS

SPEEDS = {"prefill_tok_s": "prompt 512", "decode_tok_s": "decode at 512", "decode_4096_tok_s": "decode at 4096"}
_TITLES = ("row", *(f"{title}, tok/s" for title in SPEEDS.values()), "of int8 peak", "of bandwidth")
_TITLES += ("peak memory, MB", "files, MB", "load, ms", "perplexity")
AGAINST = {
    "llama.cpp Q4_0 pure": ("llama.cpp", "Q4_0 pure"),
    "llama.cpp Q8_0": ("llama.cpp", "Q8_0"),
    "best peer": (None, None),
}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="first")
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--limits", type=Path, default=LIMITS)
    arguments = parser.parse_args(given)
    found = rows(lines(arguments.samples), arguments.run)
    perplexities = {(line["system"], line["variant"]): line["ppl"] for line in lines(PERPLEXITY)}
    limits = median_limits([line for line in lines(arguments.limits) if line["run"] == arguments.run])
    print(markdown(found, limits, perplexities))
    if INSTRUCTIONS.is_file():
        print("\n" + instruction_table(json.loads(INSTRUCTIONS.read_text())["rows"]))


def markdown(
    found: Sequence[Row], limits: Mapping[int, Mapping[str, float]], perplexities: Mapping[tuple[str, str], float]
) -> str:
    """Everything; ``limits`` by number of threads, ``perplexities`` by system and variant."""
    parts = [_limit_table(limits)]
    for shape, threads in dict.fromkeys((row.shape, row.threads) for row in found):
        mine = [row for row in found if (row.shape, row.threads) == (shape, threads)]
        body = [_cells(row, limits.get(threads), perplexities) for row in mine]
        parts.append(_table(f"{shape}, {threads} thread{'s' * (threads > 1)}", _TITLES, body))
    parts.append(_table("Ours over others", ("row", "against", *SPEEDS.values()), _ratios(found)))
    return "\n\n".join(parts)


def instruction_table(counted: Sequence[Mapping[str, Any]]) -> str:
    """What ``engine.instructions`` counted."""
    body = [[each["row"], *(f"{each[kind] / 1e6:.1f}" for kind in ("prompt", "decode"))] for each in counted]
    return _table(f"Instructions a token, in millions: AVX2, {REAL}", ("row", "of a prompt", "decoded"), body)


def median_limits(measured: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """By number of threads, over the rounds."""
    threads = dict.fromkeys(each["threads"] for line in measured for each in line["limits"])
    return {
        count: {
            name: median(each[name] for line in measured for each in line["limits"] if each["threads"] == count)
            for name in ("int8_gops", "read_gb_s", "read_76mb_gb_s")
        }
        for count in threads
    }


def spelled(spread: Spread | None, scale: float = 1.0) -> str:
    """Median, and in brackets the lowest and the highest."""
    if spread is None:
        return "–"
    return f"{_number(spread.median / scale)} ({_number(spread.low / scale)}–{_number(spread.high / scale)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _cells(row: Row, limit: Mapping[str, float] | None, perplexities: Mapping[tuple[str, str], float]) -> list[str]:
    memory, files, load = (row.measured.get(name) for name in ("peak_memory_bytes", "stored_bytes", "load_ms"))
    ppl = perplexities.get((row.system, row.variant)) if row.shape == REAL else None
    return [
        row.title,
        *(spelled(row.measured.get(name)) for name in SPEEDS),
        *_shares(row, limit),
        *(_number(each.median / 1e6) if each else "–" for each in (memory, files)),
        _number(load.median) if load else "–",
        f"{ppl:.2f}" if ppl else "–",
    ]


def _shares(row: Row, limit: Mapping[str, float] | None) -> list[str]:
    """Of the roofline, for the prompt and for decoding."""
    shape, prefill, decode = SHAPES[row.shape], row.speed("prefill_tok_s"), row.speed("decode_tok_s")
    variant = _variant(row)
    return [
        f"{100 * prefill_share(shape, prefill, limit):.0f} %" if limit and prefill else "–",
        f"{100 * decode_share(shape, variant, decode, limit):.0f} %" if limit and decode else "–",
    ]


def _variant(row: Row) -> Variant:
    return next(each for each in SYSTEMS[row.system].variants if each.name == row.variant)


def _ratios(found: Sequence[Row]) -> list[list[str]]:
    cells = []
    for row in (each for each in found if each.system == OURS):
        for name, (system, variant) in AGAINST.items():
            values = (ratio(row, beside(row, found, system, variant), measure) for measure in SPEEDS)
            title = f"{row.shape}, {row.variant}, {row.threads} threads"
            cells.append([title, name, *(f"{value:.2f}×" if value else "–" for value in values)])
    return cells


def _limit_table(limits: Mapping[int, Mapping[str, float]]) -> str:
    body = [
        [str(count), *(_number(limit[name]) for name in ("int8_gops", "read_gb_s", "read_76mb_gb_s"))]
        for count, limit in limits.items()
    ]
    return _table("What the machine can do", ("threads", "int8, GOPS", "read, GB/s", "read of 76 MB, GB/s"), body)


def _table(title: str, titles: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"### {title}", "", *map(_line, (titles, ["---"] * len(titles), *body))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
