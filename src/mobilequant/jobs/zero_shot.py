"""Zero-shot accuracy of several models on several tasks, each model compared with the float one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

from mobilequant.data.task import Request
from mobilequant.evaluate.interval import Z_95
from mobilequant.evaluate.score import REFERENCE, Executor
from mobilequant.evaluate.task import Outcome, score_choices, score_last_word
from mobilequant.pipeline.progress import Track, silent

LAST_WORD = "lambada"  # the one task that asks for a word instead of offering choices
AVERAGE = "average"  # stands beside the tasks where there are several

Measures = dict[str, float]


def zero_shot(
    executors: Mapping[str, Executor],
    tasks: Mapping[str, Sequence[Request]],
    encode: Callable[[str], Sequence[int]],
    *,
    bos: int | None,
    documents: int,
    track: Track = silent,
) -> dict[str, dict[str, Measures]]:
    """By task and executor: accuracy on the first ``documents`` requests, with error and interval (``evaluate.task``).

    ``acc_change`` is the difference to the executor "float"; its standard error ``acc_change_se`` comes from the same
    documents answered by both and is far smaller than that of acc. With two tasks and more, "average" has the
    unweighted means over the tasks; their errors are those of independent tasks.
    """
    return compared(
        {
            task: {
                name: answered(executor, task, requests, encode, bos=bos, documents=documents, track=track)
                for name, executor in executors.items()
            }
            for task, requests in tasks.items()
        }
    )


def answered(
    executor: Executor,
    task: str,
    requests: Sequence[Request],
    encode: Callable[[str], Sequence[int]],
    *,
    bos: int | None,
    documents: int,
    track: Track = silent,
) -> Outcome:
    """How one model did on the first ``documents`` requests of one task."""
    score = score_last_word if task == LAST_WORD else score_choices
    return score(executor, requests, encode, bos=bos, limit=documents, track=track)


def compared(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, dict[str, Measures]]:
    """What ``zero_shot`` tells, from outcomes by task and model; those of one model may serve many comparisons."""
    found = {
        task: {name: {**each.measures, **_change(each, models[REFERENCE])} for name, each in models.items()}
        for task, models in outcomes.items()
    }
    if len(found) > 1:
        names = next(iter(found.values()))
        found[AVERAGE] = {name: _average([models[name] for models in found.values()]) for name in names}
    return found


def _change(outcome: Outcome, reference: Outcome) -> Measures:
    pairs = zip(outcome.correct, reference.correct, strict=True)
    differences = [int(mine) - int(theirs) for mine, theirs in pairs]
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return {"acc_change": fmean(differences), "acc_change_se": error}


def _average(tasks: Sequence[Measures]) -> Measures:
    """Means of independent tasks; the 95 % interval is the normal one."""
    share, error = fmean(task["acc"] for task in tasks), _mean_error([task["acc_se"] for task in tasks])
    return {
        "acc": share,
        "acc_se": error,
        "acc_low": max(0.0, share - Z_95 * error),
        "acc_high": min(1.0, share + Z_95 * error),
        "docs": sum(task["docs"] for task in tasks),
        "acc_change": fmean(task["acc_change"] for task in tasks),
        "acc_change_se": _mean_error([task["acc_change_se"] for task in tasks]),
    }


def _mean_error(errors: Sequence[float]) -> float:
    return math.hypot(*errors) / len(errors)
