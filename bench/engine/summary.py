"""From raw samples of one run to medians, their spread, and ratios between rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from engine.row import SCENARIOS, Case

OURS = "MobileQuant"
MEASURES = ("prefill_tok_s", "decode_tok_s", "load_ms", "peak_memory_bytes", "stored_bytes")


@dataclass(frozen=True)
class Spread:
    """Of the rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(median(found), found[0], found[-1], len(found))


@dataclass(frozen=True)
class Row:
    """A line of a table: ``measured`` by name; the speed behind 4096 tokens is called ``decode_4096_tok_s``."""

    shape: str
    threads: int
    system: str
    variant: str
    measured: Mapping[str, Spread]

    @property
    def title(self) -> str:
        return f"{self.system} {self.variant}"

    def speed(self, name: str) -> float | None:
        """The median, None where it was not measured."""
        return self.measured[name].median if name in self.measured else None


def rows(samples: Iterable[Mapping[str, Any]], run: str) -> list[Row]:
    """In the order of their first samples."""
    values: dict[tuple[str, int, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in samples:
        if line["run"] != run:
            continue
        case = Case(**{field.name: line[field.name] for field in fields(Case)})
        found = values[case.shape, case.threads, case.system, case.variant]
        for name in MEASURES:
            if name in line:
                found[_name(name, case.scenario)].append(line[name])
    return [Row(*key, {name: Spread.of(each) for name, each in found.items()}) for key, found in values.items()]


def _name(measure: str, scenario: str) -> str:
    """Of a measure in a scenario: the first scenario's have none."""
    if scenario == next(iter(SCENARIOS)):
        return measure
    stem, _, unit = measure.partition("_")
    return f"{stem}_{scenario}_{unit}"


def ratio(ours: Row, others: Iterable[Row], measure: str) -> float | None:
    """Our median over that of the best of the others; None where nothing can be compared."""
    speeds = [speed for other in others if (speed := other.speed(measure))]
    mine = ours.speed(measure)
    return mine / max(speeds) if mine and speeds else None


def beside(row: Row, all_rows: Iterable[Row], system: str | None = None, variant: str | None = None) -> list[Row]:
    """Rows of other systems with the same model and threads; only those of a system and a variant, if given."""
    return [
        other
        for other in all_rows
        if (other.shape, other.threads) == (row.shape, row.threads)
        and other.system != OURS
        and (system is None or other.system == system)
        and (variant is None or other.variant == variant)
    ]
