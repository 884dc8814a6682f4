"""How much smoothing is best: one preset with several values of alpha, on text on which nothing is scored later.

    python bench/alpha.py --model smollm2-135m --preset w4a8-fast --alphas 0.6 0.7 0.8 --work DIR [--device cuda]

Prints one JSON line per value: perplexities and the integer model's KL to float, nats per token. What was measured for
two presets is in bench/results/alpha.jsonl, made on H100s by a forerunner of this script: same recipes, same text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.quantize import quantize
from mobilequant.pipeline.recipe import MethodEntry, Recipe, load_recipe


def with_alpha(recipe: Recipe, alpha: float) -> Recipe:
    """The recipe with another alpha."""
    smoothed = MethodEntry(name="smoothquant", options={"alpha": alpha})
    methods = tuple(smoothed if entry.name == "smoothquant" else entry for entry in recipe.methods)
    return recipe.model_copy(update={"methods": methods})


def main() -> None:
    """Quantize and score one package per value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--preset", default="w8a8-fast")
    parser.add_argument("--alphas", nargs="+", type=float, required=True)
    parser.add_argument("--work", type=Path, required=True, help="packages (large)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=10_220)
    arguments = parser.parse_args()
    for alpha in arguments.alphas:
        out = arguments.work / f"{arguments.model}-{arguments.preset}-{alpha}"
        recipe = with_alpha(load_recipe(arguments.preset), alpha)
        quantize(arguments.model, recipe=recipe, out=out, force=True, device=arguments.device)
        found = evaluate(out, text="lambada", tokens=arguments.tokens, device=arguments.device)
        perplexities = {name: round(found[name]["ppl"], 3) for name in ("float", "fake_quant", "integer")}
        named = {"model": arguments.model, "preset": arguments.preset, "alpha": alpha}
        print(json.dumps({**named, **perplexities, "kl": round(found["integer"]["kl"], 4)}), flush=True)


if __name__ == "__main__":
    main()
