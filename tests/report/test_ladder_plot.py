"""The chart of a ladder: widths whose rungs differ, and losses at or below none."""

from __future__ import annotations

from itertools import chain
from xml.etree import ElementTree

import pytest

from mobilequant.report.plot.ladder import ladder_plot, rungs

SHORT = ["RTN", "+ R1", "+ all"]
LONG = ["RTN", "less smoothing", "+ R1", "+ all"]


def ladder(names: list[str], ratios: list[float]) -> list[dict[str, object]]:
    return [{"name": name, "ppl_ratio": ratio} for name, ratio in zip([*names, "dynamic"], ratios, strict=True)]


@pytest.mark.parametrize("order", [[SHORT, LONG], [LONG, SHORT]])
def test_a_rung_that_only_one_width_has_stands_where_it_was_made(order: list[list[str]]) -> None:
    assert rungs(order) == LONG


def test_rungs_of_their_own_at_one_place_all_keep_a_place() -> None:
    found = rungs([["a", "b", "d"], ["a", "c", "d"]])
    assert sorted(found) == ["a", "b", "c", "d"]
    assert found[0] == "a"
    assert found[-1] == "d"


def test_widths_with_other_rungs_and_a_loss_below_none_are_drawn() -> None:
    drawing = ladder_plot(
        {"w8a8": ladder(SHORT, [1.5, 1.1, 1.0, 0.995]), "w4a8": ladder(LONG, [20.0, 2.0, 1.4, 1.07, 1.05])}
    )
    said = "".join(chain.from_iterable(ElementTree.fromstring(drawing).itertext()))
    assert "-0.5 %" in said.replace("\N{MINUS SIGN}", "-")
    assert all(name in said for name in LONG)
