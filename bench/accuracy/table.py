"""What the rows of a model say together: means and spreads over seeds, beside the targets of the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from accuracy.row import Row
from mobilequant.jobs.ladder import SCHEMES
from mobilequant.jobs.zero_shot import AVERAGE
from mobilequant.pipeline.quantity import duration, size
from mobilequant.pipeline.recipe import Recipe

STAGE_C = "w4a8, stage C"
# Perplexity over float in percent, at most, on every text.
TARGETS = {
    "smollm2-135m": {"w8a8": 2.0, "w4a8": 20.0, "w4g64a8": 10.0, STAGE_C: 10.0},
    "gemma3-270m": {"w8a8": 2.0, "w4a8": 20.0, "w4g64a8": 10.0, STAGE_C: 10.0},
    "qwen2.5-coder-0.5b": {"w8a8": 2.0, "w4a8": 12.0, "w4g64a8": 6.0, STAGE_C: 6.0},
}
# Points of zero-shot accuracy below float, at most, on the average of the tasks.
ZERO_SHOT_TARGETS = {"w8a8": 0.5, "w4a8": 2.0, "w4g64a8": 2.0, STAGE_C: 2.0}

Scores = Mapping[str, Any]


def markdown(model: str, found: Sequence[tuple[Row, Scores]]) -> str:
    """One line per recipe; its seeds stand together. ``found`` is not empty."""
    texts, tasks = _texts(found[0][1]), list(found[0][1]["tasks"])
    titles = ["recipe", "seeds", "bits/weight", *(f"loss on {text}" for text in texts), f"KL, {texts[0]}", "top-1"]
    titles += ["zero-shot", "to float, points"] if tasks else []
    titles += ["16-bit down inputs", "time", "GPU memory"]
    lines = [f"### {model}", "", _float_line(found[0][1], texts), "", _line(titles), "|---" * len(titles) + "|"]
    for _, group in groupby(found, key=lambda each: each[0].group):
        same = list(group)
        cells = _cells(model, same[0][0].recipe, [scores for _, scores in same], texts)
        lines.append(_line([same[0][0].group, *cells]))
    return "\n".join([*lines, "", _footnote(model, found), ""])


def column(recipe: Recipe) -> str | None:
    """The targets that a recipe is held to: those of its width, or of stage C where weights are trained."""
    width = next((width for width, scheme in SCHEMES.items() if scheme == recipe.scheme), None)
    tuned = any(entry.name == "self_distillation" for entry in recipe.methods)
    return {"w4a8": STAGE_C}.get(width or "") if tuned else width


def losses(scores: Scores) -> dict[str, float]:
    """By text: perplexity of the integer model over float, in percent."""
    return {text: _percent(each) for text, each in _by_text(scores).items()}


def _cells(model: str, recipe: Recipe, rows: Sequence[Scores], texts: Sequence[str]) -> list[str]:
    held_to = column(recipe) or ""
    most = TARGETS.get(model, {}).get(held_to)
    first = rows[0]
    cells = [str(len(rows)), f"{first['package']['bits_per_weight']:.2f}"]
    cells += [_spread([losses(row)[text] for row in rows], "{:+.1f}", " %", _at_most(most)) for text in texts]
    cells.append(_spread([row["integer"]["kl"] for row in rows], "{:.3f}"))
    cells.append(_spread([100 * row["integer"]["top1"] for row in rows], "{:.1f}", " %"))
    if first["tasks"]:
        answers = [_answers(row)["integer"] for row in rows]
        least = None if most is None else ZERO_SHOT_TARGETS[held_to]
        cells.append(_spread([100 * each["acc"] for each in answers], "{:.1f}", " %"))
        cells.append(_spread([100 * each["acc_change"] for each in answers], "{:+.1f}", "", _at_least(least)))
    wide = sorted({row["package"]["sixteen_bit_down_inputs"] for row in rows})
    cells += [" … ".join(map(str, wide)), _time(rows)]
    peak = max(row["run"]["device_peak_bytes"] or 0 for row in rows)
    return [*cells, size(peak) if peak else "–"]


def _time(rows: Sequence[Scores]) -> str:
    """The mean of those that were made in one go."""
    whole = [sum(row["run"]["seconds"].values()) for row in rows if not row["run"]["resumed"]]
    return duration(fmean(whole)) if whole else "–"


def _float_line(scores: Scores, texts: Sequence[str]) -> str:
    said = [f"{text} {_by_text(scores)[text]['float']['ppl']:.2f}" for text in texts]
    line = f"Perplexity of the float model: {', '.join(said)}; {scores['protocol']['predictions']} predictions each."
    if not scores["tasks"]:
        return line
    tasks = [task for task in scores["tasks"] if task != AVERAGE]
    answers = _answers(scores)["float"]
    return f"{line} Zero-shot: {100 * answers['acc']:.1f} % ({', '.join(tasks)}; {answers['docs']} documents)."


def _footnote(model: str, found: Sequence[tuple[Row, Scores]]) -> str:
    float_ops = max(scores["package"]["float_ops"] for _, scores in found)
    said = f"Integer model; mean (least … most) over seeds; at most {float_ops} float operations in a package."
    if model not in TARGETS:
        return said
    wanted = ", ".join(f"{name} {most:g} %" for name, most in TARGETS[model].items())
    return f"{said} ✓ the mean meets the target, ✗ it does not: {wanted}; zero-shot −0.5 points at w8a8, −2 at w4."


def _answers(scores: Scores) -> Scores:
    tasks = scores["tasks"]
    return tasks.get(AVERAGE) or next(iter(tasks.values()))


def _texts(scores: Scores) -> list[str]:
    return list(_by_text(scores))


def _by_text(scores: Scores) -> dict[str, Scores]:
    """Files by their names without folders."""
    texts = {scores["settings"]["text"]: scores, **scores["other_texts"]}
    return {Path(name).stem: each for name, each in texts.items()}


def _percent(scores: Scores) -> float:
    return 100 * (scores["integer"]["ppl_ratio"] - 1)


def _at_most(target: float | None) -> Callable[[float], bool] | None:
    return None if target is None else lambda mean: mean <= target


def _at_least(target: float | None) -> Callable[[float], bool] | None:
    return None if target is None else lambda mean: mean >= -target


def _spread(values: Sequence[float], form: str, unit: str = "", met: Callable[[float], bool] | None = None) -> str:
    """The mean, and the extremes where there are several values; a mark where there is a target."""
    mean = fmean(values)
    said = form.format(mean) + unit
    if len(values) > 1:
        said += f" ({form.format(min(values))} … {form.format(max(values))})"
    return said if met is None else f"{said} {'✓' if met(mean) else '✗'}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
