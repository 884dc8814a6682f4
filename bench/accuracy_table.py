"""What static integer quantization costs: models × recipes, integer model beside float, on the published protocol.

    python bench/accuracy_table.py --models smollm2-135m --work DIR [--device cuda] [--tokens 20440]

Every row is one package, quantized and scored by the same code as the command line; a finished row is not done again.
RECIPE@S is a recipe with the calibration and training windows of seed S.
Prints a Markdown table and writes bench/results/accuracy_<model>.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.quantize import quantize
from mobilequant.pipeline.recipe import Recipe, load_recipe

HERE = Path(__file__).parent
BASELINES = ("rtn-w8a8", "smoothquant-w8a8", "gptq-w8a8", "rtn-w4a8", "smoothquant-w4a8")
PRESETS = ("w8a8-fast", "w8a8-fast@1", "w8a8-fast@2", "w4a8-fast", "w4g64a8-fast")
MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")


def recipe_of(name: str) -> Recipe:
    """A preset or a recipe of bench/recipes by its row: ``w8a8-fast``, or ``w8a8-fast@1`` with windows of seed 1."""
    stem, _, seed = name.partition("@")
    own = HERE / "recipes" / f"{stem}.yaml"
    recipe = load_recipe(own if own.exists() else stem)
    if not seed:
        return recipe
    texts = {name: getattr(recipe, name) for name in ("data", "training") if getattr(recipe, name)}
    return recipe.model_copy(update={n: text.model_copy(update={"seed": int(seed)}) for n, text in texts.items()})


def row(model: str, name: str, folder: Path, device: str, text: str, tokens: int) -> dict[str, Any]:
    """One package and its scores, read back if an earlier run has them."""
    package, result = folder / name, folder / f"{name}.json"
    if not result.exists():
        unfinished = folder / f"{name}.work"
        quantize(
            model, recipe=recipe_of(name), out=package, work_dir=unfinished, resume=True, force=True, device=device
        )
        scores = evaluate(package, text=text, tokens=tokens, device=device)
        about = inspect(package)
        scores["package"] = {key: about[key] for key in ("bits_per_weight", "float_ops", "sixteen_bit")}
        result.write_text(json.dumps(scores, indent=1) + "\n")
    return json.loads(result.read_text())


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown: one line per recipe."""
    lines = ["| recipe | bits/weight | float | fake-quant | **integer** | loss | KL | top-1 | 16-bit down inputs |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, found in rows.items():
        integer, reference = found["integer"], found["float"]
        wide = [point for point in found["package"]["sixteen_bit"] if point.endswith((".product", ".act"))]
        lines.append(
            f"| {name} | {found['package']['bits_per_weight']:.2f} | {reference['ppl']:.2f} "
            f"| {found['fake_quant']['ppl']:.2f} | {integer['ppl']:.2f} | {100 * (integer['ppl_ratio'] - 1):+.1f} % "
            f"| {integer['kl']:.3f} | {100 * integer['top1']:.1f} % | {', '.join(wide) or 'none'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all rows of the models that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--recipes", nargs="+", default=[*BASELINES, *PRESETS])
    parser.add_argument("--work", type=Path, required=True, help="packages and unfinished work (large)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", default="wiki_squad")
    parser.add_argument("--tokens", type=int, default=20_440)
    arguments = parser.parse_args()
    for model in arguments.models:
        folder = arguments.work / Path(model).name
        folder.mkdir(parents=True, exist_ok=True)
        rows = {}
        for name in arguments.recipes:
            rows[name] = row(model, name, folder, arguments.device, arguments.text, arguments.tokens)
            print(f"{folder.name} {name}: {rows[name]['integer']['ppl']:.2f}", flush=True)
        print(f"\n### {folder.name}\n\n{table(rows)}\n", flush=True)
        (HERE / "results" / f"accuracy_{folder.name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
