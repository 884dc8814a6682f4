"""What rows say: all of them as a table, and what each piece and more data is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mobilequant.pipeline.quantity import duration
from published.row import TRAINED, WITHOUT_UP_TO_DOWN, Budget, Row, reference, untrained

Found = Mapping[Row, Mapping[str, Any]]
_TITLES = ("row", "in the paper", "windows × epochs", "steps", "first 40", "all", "over float", "loss", "time")


def markdown(rows: Sequence[Row], found: Found) -> str:
    """The rows of each model and setting, made or not."""
    return "\n\n".join(_table(*group, rows, found) for group in groups(rows))


def effects(rows: Sequence[Row], found: Found, budget: Budget) -> str:
    """Perplexity on all windows without a thing and with it, where both rows are there."""
    lines = [_line(("model", "setting", "what is added", "to", "without", "with", "change")), _line(["---"] * 7)]
    for model, setting in groups(rows):
        blocks, whole = (Row(model, setting, each, windows=budget.most, epochs=budget.epochs) for each in TRAINED)
        for what, to, without, having in (*_of_pieces(blocks, whole), *_of_data(blocks, whole, budget)):
            before, after = (found.get(row, {}).get("ppl_wiki_all") for row in (without, having))
            if before and after:
                cells = f"{before:.2f}", f"{after:.2f}", f"{100 * (after / before - 1):+.1f} %"
                lines.append(_line((model, setting, what, to, *cells)))
    return "\n".join(lines)


def groups(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Models and settings in the order of the rows."""
    return list(dict.fromkeys((row.model, row.setting) for row in rows if row.objective != "float"))


def _table(model: str, setting: str, rows: Sequence[Row], found: Found) -> str:
    real = reference(model)
    mine = [real, *(row for row in rows if (row.model, row.setting) == (model, setting))]
    float_ppl = found.get(real, {}).get("ppl_wiki_all")
    cells = [_cells(row, found.get(row), float_ppl) for row in mine]
    return "\n".join([f"### {model}, {setting}", "", *map(_line, (_TITLES, ["---"] * len(_TITLES), *cells))])


def _cells(row: Row, scores: Mapping[str, Any] | None, float_ppl: float | None) -> list[str]:
    budget = [f"{row.windows} × {row.epochs}", str(row.steps)] if row.trained else ["–", "–"]
    named = [row.title, row.paper_name, *budget]
    if scores is None or "failed" in scores:
        return [*named, "diverged" if scores else "not run yet", *["–"] * 4]
    named += [f"{scores['ppl_wiki_40']:.2f}", f"{scores['ppl_wiki_all']:.2f}"]
    relative = float_ppl and row.objective != "float"
    named.append(f"{100 * (scores['ppl_wiki_all'] / float_ppl - 1):+.1f} %" if relative else "–")
    if not row.trained:
        return [*named, "–", "–"]
    return [*named, f"{scores['loss_first']:.4g} → {scores['loss_last']:.4g}", duration(scores["seconds"])]


def _of_pieces(blocks: Row, whole: Row) -> Iterator[tuple[str, str, Row, Row]]:
    smoothed, half = (untrained(blocks.model, blocks.setting, each) for each in (blocks.pairs, WITHOUT_UP_TO_DOWN))
    static = replace(blocks, ranges=False)
    yield "up→down", "smoothing", half, smoothed
    yield "up→down", "block by block, ranges fixed", replace(static, pairs=WITHOUT_UP_TO_DOWN), static
    yield "up→down", "end to end", replace(whole, pairs=WITHOUT_UP_TO_DOWN), whole
    yield "learned ranges", "block by block", static, blocks
    yield "learned ranges", "end to end", replace(whole, ranges=False), whole
    yield "learned clipping", "end to end", replace(whole, clipping=False), whole


def _of_data(blocks: Row, whole: Row, budget: Budget) -> Iterator[tuple[str, str, Row, Row]]:
    """End to end in place of block by block, then from each number of windows to the most."""
    for windows, epochs in budget.points:
        without, having = (replace(most, windows=windows, epochs=epochs) for most in (blocks, whole))
        yield "end to end", f"in place of block by block, {windows} × {epochs}", without, having
    for name, points in budget.lines.items():
        for most in (blocks, whole):
            for windows, epochs in points[:-1]:
                less = replace(most, windows=windows, epochs=epochs)
                yield f"windows: {windows} → {most.windows}", f"{most.title}, {name}", less, most


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
