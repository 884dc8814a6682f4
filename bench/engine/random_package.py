"""A package of ours for a model of random weights: ``mobilequant quantize`` without its check of memory.

    PYTHONPATH=bench python -m engine.random_package HF_FOLDER RECIPE OUT

The check counts five copies of the model in float, 23 GB for one of 1.1 billion weights, because some method may need
them. Rounding to nearest on a few short windows does not: the peak that it really takes is printed at the end.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.jobs.plan import plan_quantize
from mobilequant.jobs.quantize import Job
from mobilequant.methods.registry import make_all
from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.quantity import size
from mobilequant.pipeline.recipe import load_recipe


def main(folder: Path, recipe_file: Path, out: Path) -> None:
    model, recipe = resolve(str(folder)), load_recipe(recipe_file)
    data, text = recipe.data, load_text(recipe.data.text)
    ids = Tokenizer.load(folder).encode(text.content[:100_000])
    drawn = windows(ids, window=data.window, count=data.count, seed=data.seed)
    plan = plan_quantize(model.arch, recipe, flops_per_s=1e11)
    work = out.parent / f"{out.name}.work"
    job = Job(folder.name, model, "cpu", text, drawn, None, recipe, make_all(recipe), plan, out, work, False)
    job.run()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{out.name}: {size(peak_bytes)} of memory at most, {size(plan.memory_bytes)} planned")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
