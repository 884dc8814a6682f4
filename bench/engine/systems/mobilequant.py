"""Our own engine, called as anybody would call it; its packages are made by ``mobilequant quantize``.

The command is a template, so that another build can be timed beside this one:
``{package} {threads} {prompt} {decode}`` are filled in, and ``--context N`` is added for a longer context.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from engine.lengthen import lengthen
from engine.row import Scenario, Variant
from engine.shapes import Shape, peers_dir
from engine.systems.process import run
from engine.systems.system import Command, System, folder_bytes

_CLI = f"{sys.executable} -m mobilequant"
_SIZES = "--prompt {prompt} --decode {decode} --threads {threads}"
TEMPLATE = f"{_CLI} bench {{package}} {_SIZES} --repeat 1 --format json"  # one timed run in a process, as all
_PRESETS = {"W4A8": "w4a8-fast", "W4A8 g64": "w4g64a8-fast", "W8A8": "w8a8-fast"}
LONGEST = 4_352  # positions: 4,096 and 128 behind them
RECIPES = Path(__file__).parents[1] / "recipes"


class MobileQuant(System):
    """Integers only: static int8 activations, int8 keys and values, 4- or 8-bit weights and an 8-bit head."""

    name = "MobileQuant"
    variants = (Variant(name, "W4A8", 4, 8), Variant(name, "W4A8 g64", 4.125, 8), Variant(name, "W8A8", 8, 8))

    def __init__(self, template: str = TEMPLATE) -> None:
        self.template = template

    def prepare(self, shape: Shape) -> None:
        for variant in self.variants:
            preset, package = _PRESETS[variant.name], self.package(shape, variant)
            if (package / "package.json").is_file():
                continue
            if shape.random is None:
                run([*shlex.split(_CLI), "quantize", shape.name, "--preset", preset, "--out", package, "--force"])
                lengthen(package, shape.name, LONGEST)
            else:
                make = [sys.executable, "-m", "engine.random_package"]
                run([*make, shape.folder(), RECIPES / f"{preset}.yaml", package])

    def package(self, shape: Shape, variant: Variant) -> Path:
        return peers_dir() / "mobilequant" / shape.name / _PRESETS[variant.name]

    def stored_bytes(self, shape: Shape, variant: Variant) -> int:
        package = self.package(shape, variant)
        return folder_bytes(package / "weights.safetensors", package / "graph.json")

    def commands(self, shape: Shape, variant: Variant, threads: int, scenario: Scenario) -> list[Command]:
        longer = [] if scenario.prompt else ["--context", str(scenario.context)]
        filled = self.template.format(
            package=shlex.quote(str(self.package(shape, variant))),
            prompt=scenario.prompt or 512,
            decode=scenario.decode,
            threads=threads,
        )
        return [[*shlex.split(filled), *longer]]

    def nll(self, shape: Shape, variant: Variant, ids: Path, window: int) -> dict[str, float]:
        """As ``mobilequant eval`` says: it chooses the same windows itself, and adds the float model's."""
        predictions = ids.stat().st_size // 4 // window * (window - 1)
        sizes = ["--window", str(window), "--tokens", str(predictions)]
        package = self.package(shape, variant)
        told = json.loads(run([*shlex.split(_CLI), "eval", package, *sizes, "--format", "json"]))
        return {
            "nll": told["integer"]["nll"] * predictions,
            "predictions": predictions,
            "float_nll": told["float"]["nll"] * predictions,
            "ids_sha256": told["protocol"]["ids_sha256"],
        }
