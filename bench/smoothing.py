"""Which smoothing is best: one preset with several options of smoothquant, on text on which nothing is scored later.

    python bench/smoothing.py --model smollm2-135m --preset w4a8-fast --work DIR [--device cuda]
        --options '{alpha: 0.7}' '{alpha: 0.25, beta: 0, pairs: [up_to_down, v_to_o, q_to_k, norm_to_head]}'

Prints one JSON line for each: perplexities and the integer model's KL to float, nats per token. What was measured for
two presets is in bench/results/smoothing.jsonl; the first 21 lines were made on H100s by a forerunner of this script
(same recipes, same text), those with `what` by a shorter one, which simulates and scores little text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.quantize import quantize
from mobilequant.pipeline.recipe import MethodEntry, Recipe, load_recipe


def with_smoothing(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    """The recipe with other options of smoothquant."""
    smoothed = MethodEntry(name="smoothquant", options=options)
    methods = tuple(smoothed if entry.name == "smoothquant" else entry for entry in recipe.methods)
    return recipe.model_copy(update={"methods": methods})


def main() -> None:
    """Quantize and score one package for each choice of options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--preset", default="w8a8-fast", help="or a recipe file")
    parser.add_argument("--options", nargs="+", type=yaml.safe_load, required=True, help="of smoothquant, as YAML")
    parser.add_argument("--work", type=Path, required=True, help="packages (large)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=10_220)
    arguments = parser.parse_args()
    for number, options in enumerate(arguments.options):
        out = arguments.work / f"{arguments.model}-{Path(arguments.preset).stem}-{number}"
        recipe = with_smoothing(load_recipe(arguments.preset), options)
        quantize(arguments.model, recipe=recipe, out=out, force=True, device=arguments.device)
        found = evaluate(out, text="lambada", tokens=arguments.tokens, device=arguments.device)
        perplexities = {name: round(found[name]["ppl"], 3) for name in ("float", "fake_quant", "integer")}
        named = {"model": arguments.model, "preset": Path(arguments.preset).stem, "smoothquant": options}
        print(json.dumps({**named, **perplexities, "kl": round(found["integer"]["kl"], 4)}), flush=True)


if __name__ == "__main__":
    main()
