"""What each idea is worth: every rung of a ladder quantized and scored, on the same tokens, resumable rung by rung.

WORK/w4a8/03-prefix/           the package of a rung
WORK/w4a8/03-prefix.json       its scores: a rung that has them is not done again
WORK/ablation.json, .svg       all of it, when it is done
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.errors import ResourceError
from mobilequant.evaluate.batch import tokens_at_once
from mobilequant.evaluate.protocol import window_count
from mobilequant.evaluate.score import score
from mobilequant.jobs.evaluate import evaluate, float_model
from mobilequant.jobs.executor import dynamic_executor, float_executor
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.ladder import Rung, ladder
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import quantize
from mobilequant.jobs.simulation import load_simulation
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.atomic_file import write_atomically
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.recipe import CalibrationData
from mobilequant.report.plot.ladder import ladder_plot

DYNAMIC = "dynamic per token"


def ablate(
    model: str | Path,
    *,
    work: str | Path,
    widths: Sequence[str] = ("w8a8", "w4a8"),
    data: CalibrationData,
    training: CalibrationData | None = None,
    text: str = "wiki_squad",
    window: int = 512,
    tokens: int = 20_440,
    seed: int = 0,
    device: str = "cpu",
    track: Track = silent,
) -> dict[str, Any]:
    """Scores of every rung in every width: {"settings", "widths": {width: [{name, ppl, …}]}}.

    The last entry of a width is no integer model: the weights of the last rung with activations that are rounded for
    each token anew, which is what static ranges could reach at most.

    Raises:
        MobileQuantError: as ``quantize`` and ``evaluate``.
    """
    folder = Path(work)
    ladders = {width: ladder(width, data, training, seed) for width in widths}
    scoring = {"text": text, "window": window, "tokens": tokens, "device": device}
    rows = {}
    for width, rungs in ladders.items():
        places = [_place(folder / width, number, rung) for number, rung in enumerate(rungs)]
        rows[width] = [_rung(model, rung, place, scoring, track) for rung, place in zip(rungs, places, strict=True)]
        rows[width].append(_bound(places[-1], scoring, track))
    trained = training.model_dump() if training else None
    settings = {**scoring, "seed": seed, "data": data.model_dump(), "training": trained}
    found = {"model": str(model), "settings": settings, "widths": rows}
    _write(folder / "ablation.json", json.dumps(found, indent=1))
    _write(folder / "ablation.svg", ladder_plot(rows))
    return found


def _place(folder: Path, number: int, rung: Rung) -> Path:
    words = re.findall(r"[a-z0-9]+", rung.name.lower())
    return folder / "-".join([f"{number:02}", *words])


def _rung(model: str | Path, rung: Rung, place: Path, scoring: dict[str, Any], track: Track) -> dict[str, Any]:
    """The scores of one rung, made if an earlier run has not."""
    result = place.with_suffix(".json")
    if not result.exists():
        quantize(
            model,
            recipe=rung.recipe,
            out=place,
            work_dir=place.with_suffix(".work"),
            resume=True,
            force=True,
            device=scoring["device"],
            track=track,
        )
        scores, about = evaluate(place, **scoring, track=track), inspect(place)
        row = {
            "name": rung.name,
            "float_ppl": scores["float"]["ppl"],
            **{key: scores["integer"][key] for key in ("ppl", "ppl_ratio", "kl", "top1")},
            "fake_quant_ppl": scores["fake_quant"]["ppl"],
            "bits_per_weight": about["bits_per_weight"],
            "float_ops": about["float_ops"],
            "protocol": scores["protocol"],
            "hashes": scores["hashes"],
            "environment": scores["environment"],
        }
        _write(result, json.dumps(row, indent=1))
    return json.loads(result.read_text())


def _bound(place: Path, scoring: dict[str, Any], track: Track) -> dict[str, Any]:
    """The weights of a rung with dynamic per-token activations."""
    opened = open_package(place)
    source = float_model(opened, None, track).to(device=scoring["device"])
    quantized, bos = load_simulation(place, opened.graph, source), opened.about.leading_token
    cut = _scored(place, opened.graph.vocab_size, scoring).to(scoring["device"])
    executors = {"float": float_executor(source, None, bos), DYNAMIC: dynamic_executor(quantized, bos)}
    batch_tokens = tokens_at_once(scoring["device"], opened.graph.vocab_size)
    scores = score(executors, cut, bos=bos, batch_tokens=batch_tokens, track=track)
    kept = {key: scores[DYNAMIC][key] for key in ("ppl", "ppl_ratio", "kl", "top1")}
    return {"name": DYNAMIC, "float_ppl": scores["float"]["ppl"], **kept}


def _scored(place: Path, vocab_size: int, scoring: dict[str, Any]) -> Tensor:
    ids = Tokenizer.load(place, num_rows=vocab_size).encode(load_text(scoring["text"]).content)
    count = window_count(scoring["tokens"], scoring["window"])
    return windows(ids, window=scoring["window"], count=count, seed=None)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", "Choose another --work folder.") from error
