"""Does a model of seven billion weights go through ``quantize`` on one GPU, and what does each phase take?

    python bench/seven_billion.py [--recipe w8a8-fast | bench/recipes/rotated-scales-w4a8.yaml] [--device cuda]
    python bench/seven_billion.py --device cpu --layers 2 --width 64 --inner 160 --heads 4 --vocab 512   to try it

Random weights in the shape of Llama-2-7B and a text of random words: memory and time are real, the model is not.
Needs no network, memory on the host for three copies of the weights (81 GB), and 20 GB of disk. Prints each phase with
its seconds and peak memory, and adds one line to bench/results/seven_billion.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mobilequant.arch.architecture import Architecture
from mobilequant.arch.registry import find
from mobilequant.jobs.quantize import prepare
from mobilequant.methods.registry import METHODS
from mobilequant.models.canonical import expected_shapes
from mobilequant.models.model import Model
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.recipe import CalibrationData, MethodEntry, Recipe, load_recipe
from mobilequant.pipeline.workspace import Workspace
from phases import Phases

RESULTS = Path(__file__).parent / "results" / "seven_billion.jsonl"


def main(given: list[str] | None = None) -> dict[str, Any]:
    """Make the model, quantize it, tell what it took."""
    arguments = parsed(given)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        text = random_words(folder / "words.txt", count=arguments.windows * arguments.window)
        recipe = small(arguments.recipe, text, arguments)
        phases = Phases(arguments.device, "make the model")
        model = replace(random_model(shape(arguments), arguments.device), tokenizer_dir=byte_tokenizer(folder))
        phases.begin("check and plan")
        job = prepare(
            "random-7b", recipe, out=folder / "package", work_dir=folder / "work", device=arguments.device, loaded=model
        )
        job.run(track=phases)
        phases.end()
        line = {
            "recipe": str(arguments.recipe),
            "parameters": sum(tensor.numel() for tensor in model.tensors.values()),
            "windows": [arguments.windows, arguments.window],
            "batch": arguments.batch,
            "device": torch.cuda.get_device_name() if phases.on_gpu else "cpu",
            "plan": asdict(job.plan),
            "device_peak_bytes": phases.device_peak_bytes,
            "host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "work_bytes": stored_bytes(Workspace(folder / "work").folder),
            "package_bytes": stored_bytes(job.out),
            "phases": phases.found,
            "environment": environment().model_dump(),
        }
    with arguments.results.open("a") as results:
        results.write(json.dumps(line) + "\n")
    return line


def parsed(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bench/recipes/rotated-scales-w4a8.yaml")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--windows", type=int, default=8, help="of calibration and of training each")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where checkpoints and package go, and are removed again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    for name, number in (("layers", 32), ("width", 4096), ("inner", 11008), ("heads", 32), ("vocab", 32000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_args(given)


def shape(arguments: argparse.Namespace) -> Architecture:
    config = {
        "model_type": "llama",
        "hidden_size": arguments.width,
        "intermediate_size": arguments.inner,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.heads,
        "vocab_size": arguments.vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }
    return find("llama").resolve(config)


def random_model(arch: Architecture, device: str) -> Model:
    """Matrices that keep the variance of what they read, drawn on the device because that is fast."""
    generator, tensors = torch.Generator(device).manual_seed(0), {}
    for name, sizes in expected_shapes(arch).items():
        spread = 0.1 if name.endswith("norm.weight") else sizes[-1] ** -0.5
        drawn = torch.randn(sizes, generator=generator, device=device).mul_(spread)
        tensors[name] = (drawn + 1 if name.endswith("norm.weight") else drawn).cpu()
    return Model(arch, tensors, source="random weights, seed 0")


def small(name: str, text: Path, arguments: argparse.Namespace) -> Recipe:
    """The recipe on a few windows of the text; what trains recomputes, in small batches."""
    recipe = load_recipe(Path(name) if "/" in name else name)
    data = CalibrationData(text=str(text), window=arguments.window, count=arguments.windows)
    knobs = {"recompute": True, "batch": arguments.batch, "held_out": 1}
    methods = tuple(
        MethodEntry(name=entry.name, options={**entry.options, **knobs})
        if "recompute" in METHODS[entry.name].Config.model_fields
        else entry
        for entry in recipe.methods
    )
    return recipe.model_copy(update={"methods": methods, "data": data, "training": data})


def random_words(path: Path, *, count: int) -> Path:
    """A text of at least ``count`` bytes."""
    generator = random.Random(0)
    made = ("".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(1, 8))) for _ in range(count))
    path.write_text(" ".join(made))
    return path


def byte_tokenizer(folder: Path) -> Path:
    """The folder, with a tokenizer in it whose tokens are bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
