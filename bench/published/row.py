"""One row of the paper's ablations: what is done to a model, on how much data.

Which rows there are, and what the paper varies (arXiv 2408.13933):

    pieces  its Table 1 sets methods with and without up→down side by side, in smoothing as in learning: SmoothQuant
            and OmniQuant, static (without) and Edge (with). Its Table 3 adds learned ranges to OmniQuant-Edge. Ours
            adds the same two questions asked of end-to-end training, clipping, and rounding to nearest. It has no row
            with activations rounded per token, so there is none here.
    data    its Table 2: block by block against end to end, both with learned ranges, for windows × epochs.

Block by block, each block sees each window ``epochs`` times; end to end, all do. So at equal windows and epochs every
leaf is moved equally often, and that is how the paper compares. Between its lines, though, more windows are more steps
too. So each number of windows is taken twice: with the epochs of the largest (as the paper does it), and with its steps
(only the data differ).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mobilequant.arch.pair import Kind
from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS
from published.simulation import Learned

Objective = Literal["float", "untrained", "block-wise", "end-to-end"]
WITHOUT_UP_TO_DOWN: tuple[Kind, ...] = tuple(kind for kind in PUBLISHED_PAIRS if kind != "up_to_down")
TRAINED: tuple[Objective, ...] = ("block-wise", "end-to-end")
SPELLED = {"block-wise": "block by block", "end-to-end": "end to end"}
FLOAT = "float"


@dataclass(frozen=True)
class Row:
    """``pairs`` are smoothed, and learned where there is training."""

    model: str
    setting: str
    objective: Objective
    pairs: tuple[Kind, ...] = PUBLISHED_PAIRS
    ranges: bool = True
    clipping: bool = True
    windows: int = 0
    epochs: int = 0

    @property
    def trained(self) -> bool:
        return self.objective in TRAINED

    @property
    def steps(self) -> int:
        """How often each leaf is moved."""
        return self.windows * self.epochs

    @property
    def learned(self) -> Learned:
        return Learned(self.pairs if self.trained else (), self.clipping, self.ranges)

    @property
    def title(self) -> str:
        if self.objective == "float":
            return FLOAT
        if not self.trained:
            return _UNTRAINED[self.pairs]
        lacking = [] if self.pairs == PUBLISHED_PAIRS else ["up→down"]
        lacking += [] if self.ranges else ["learned ranges"]
        lacking += [] if self.clipping else ["clipping"]
        return f"{SPELLED[self.objective]}{', without ' if lacking else ''}{' and '.join(lacking)}"

    @property
    def paper_name(self) -> str:
        """What the paper calls it, where it has it."""
        return _PAPER.get((self.objective, self.pairs, self.ranges, self.clipping), "")

    def key(self) -> dict[str, Any]:
        """As JSON reads it back."""
        return {**asdict(self), "pairs": list(self.pairs)}


def reference(model: str) -> Row:
    """The float model."""
    return Row(model, FLOAT, "float", (), ranges=False, clipping=False)


def untrained(model: str, setting: str, pairs: tuple[Kind, ...]) -> Row:
    """Rounded to nearest with the ranges as they are measured, smoothed or not."""
    return Row(model, setting, "untrained", pairs, ranges=False, clipping=False)


@dataclass(frozen=True)
class Budget:
    """Numbers of training windows, and how often the most of them are seen."""

    numbers: tuple[int, ...]
    epochs: int

    @property
    def most(self) -> int:
        return max(self.numbers)

    @property
    def lines(self) -> dict[str, list[tuple[int, int]]]:
        """Windows and epochs of each line of the comparison; both end in the same point."""
        numbers = sorted(set(self.numbers))
        return {
            "equal steps": [(number, self.epochs * self.most // number) for number in numbers],
            "equal epochs": [(number, self.epochs) for number in numbers],
        }

    @property
    def points(self) -> list[tuple[int, int]]:
        """Those of all lines, each once."""
        return list(dict.fromkeys(point for line in self.lines.values() for point in line))


def pieces(model: str, setting: str, budget: Budget) -> list[Row]:
    """What each piece is worth."""
    blocks = Row(model, setting, "block-wise", windows=budget.most, epochs=budget.epochs)
    whole = replace(blocks, objective="end-to-end")
    return [
        *(untrained(model, setting, pairs) for pairs in _UNTRAINED),
        replace(blocks, pairs=WITHOUT_UP_TO_DOWN, ranges=False),
        replace(blocks, ranges=False),
        blocks,
        replace(whole, pairs=WITHOUT_UP_TO_DOWN),
        replace(whole, ranges=False),
        replace(whole, clipping=False),
        whole,
    ]


def data(model: str, setting: str, budget: Budget) -> list[Row]:
    """What more data is worth."""
    return [
        Row(model, setting, objective, windows=windows, epochs=epochs)
        for windows, epochs in budget.points
        for objective in TRAINED
    ]


_UNTRAINED: dict[tuple[Kind, ...], str] = {
    (): "rounded to nearest",
    WITHOUT_UP_TO_DOWN: "smoothed, without up→down",
    PUBLISHED_PAIRS: "smoothed",
}
_PAPER: dict[tuple[Objective, tuple[Kind, ...], bool, bool], str] = {
    ("untrained", WITHOUT_UP_TO_DOWN, False, False): "SmoothQuant-Static",
    ("untrained", PUBLISHED_PAIRS, False, False): "SmoothQuant-Edge",
    ("block-wise", WITHOUT_UP_TO_DOWN, False, True): "OmniQuant-Static",
    ("block-wise", PUBLISHED_PAIRS, False, True): "OmniQuant-Edge",
    ("block-wise", PUBLISHED_PAIRS, True, True): "OmniQuant-Edge + ranges",
    ("end-to-end", PUBLISHED_PAIRS, True, True): "MobileQuant",
}
