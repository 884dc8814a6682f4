"""Which activations of a package cost what: the KL of its simulation with each role of them rounded alone, or left out.

    python bench/activation_cost.py PACKAGE [--text lambada] [--windows 8] [--length 256] [--device cpu]

Prints one JSON line for all activations together ("everything") and for none ("weights"), then one for each role: how
many points it has, how many of them have 16 bits, KL against the float model when it alone is rounded beside the
weights, and when all others are. Nothing here is a text that is scored elsewhere, unless you name one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.evaluate.score import Executor, score
from mobilequant.jobs.evaluate import float_model
from mobilequant.jobs.executor import float_executor
from mobilequant.jobs.package import open_package
from mobilequant.jobs.simulation import load_simulation
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.numerics.qtype import INT16
from mobilequant.pipeline.progress import silent


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--text", default="lambada")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(given)
    ids = Tokenizer.load(arguments.package).encode(load_text(arguments.text).content)
    cut = windows(ids, window=arguments.length, count=arguments.windows, seed=1).to(arguments.device)
    for line in costs(arguments.package, cut):
        print(json.dumps(line), flush=True)


def costs(package: Path, tokens: Tensor) -> list[dict[str, Any]]:
    """A line for everything, for the weights alone and for each role; tokens (N, T)."""
    opened = open_package(package)
    source = float_model(opened, None, silent).to(device=tokens.device)
    quantized, bos = load_simulation(package, opened.graph, source), opened.about.leading_token
    model, prefix, rounded = quantized.simulated(), quantized.simulated_prefix(), quantized.tap()

    def executor(chosen: Callable[[str], bool]) -> Executor:
        def tap(name: str, value: Tensor) -> Tensor:
            return rounded(name, value) if chosen(point.role_of(name)) else value

        return float_executor(model, prefix, bos, tap)

    roles = list(dict.fromkeys(map(point.role_of, quantized.activations)))
    chosen: dict[str, Callable[[str], bool]] = {"everything": lambda _role: True, "weights": lambda _role: False}
    for role in roles:
        chosen |= {f"{role} alone": lambda r, role=role: r == role, f"all but {role}": lambda r, role=role: r != role}
    executors = {name: executor(which) for name, which in chosen.items()}
    with torch.inference_mode():
        found = score({"float": float_executor(source, None, bos), **executors}, tokens, bos=bos, batch_tokens=1)
    kl = {name: float(f"{scores['kl']:.4g}") for name, scores in found.items()}
    points = [(point.role_of(name), each.qtype == INT16) for name, each in quantized.activations.items()]
    return [
        {"everything": kl["everything"]},
        {"weights": kl["weights"]},
        *(
            {
                "role": role,
                "points": sum(of == role for of, _ in points),
                "sixteen_bit": sum(of == role and wide for of, wide in points),
                "alone": kl[f"{role} alone"],
                "all_but": kl[f"all but {role}"],
            }
            for role in roles
        ),
    ]


if __name__ == "__main__":
    main()
