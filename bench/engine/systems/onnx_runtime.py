"""ONNX Runtime: 4-bit weights with integer matrix products, and everything in front of and behind a MatMul in 8 bits.

The package's own model builder writes the graphs; the static one goes through ONNX Runtime's quantizer. Both exist
twice on the same weights: with the logits of the last token only, which is timed, and with all, which is scored.
"""

from __future__ import annotations

from pathlib import Path

from engine.row import Scenario, Variant
from engine.shapes import Shape, peers_dir
from engine.systems.process import make_venv, run
from engine.systems.system import Command, System, folder_bytes, last_object
from engine.token_file import calibration_file, random_file
from mobilequant.data.cache import publish_folder

PACKAGES = (
    "onnxruntime==1.31.1",
    "onnxruntime-genai==0.18.0",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "torch==2.13.0",
    "transformers==5.23.0",
    "numpy==2.4.6",
)
_INSIDE = Path(__file__).parents[1] / "inside"
_MAKES = {"int4 b32": "int4", "static W8A8": "static"}


class OnnxRuntime(System):
    """int4: blocks of 32 weights with a 32-bit scale, activations rounded to 8 bits in blocks at run time
    (accuracy level 4). static: fixed 8-bit activations (u8) around each MatMul, weights s8 per channel."""

    name = "ONNX Runtime"
    variants = (Variant(name, "int4 b32", 5, 5), Variant(name, "static W8A8", 8, 8))

    def prepare(self, shape: Shape) -> None:
        python = _python()
        tokens = calibration_file() if shape.random is None else random_file(shape.random.vocab)
        for variant in self.variants:
            if not (folder := _folder(shape, variant)).is_dir():
                with publish_folder(folder) as made:
                    make = _INSIDE / "onnx_runtime_make.py"
                    run([python, make, _MAKES[variant.name], shape.folder(), made, tokens])

    def stored_bytes(self, shape: Shape, variant: Variant) -> int:
        folder = _folder(shape, variant)
        return folder_bytes(folder / "model.onnx", *folder.glob("*.data"))

    def commands(self, shape: Shape, variant: Variant, threads: int, scenario: Scenario) -> list[Command]:
        sizes = [str(scenario.context), str(scenario.decode), str(threads)]
        return [[str(_python()), str(_INSIDE / "onnx_runtime_time.py"), str(_folder(shape, variant)), *sizes]]

    def nll(self, shape: Shape, variant: Variant, ids: Path, window: int) -> dict[str, float]:
        score = _INSIDE / "onnx_runtime_score.py"
        return last_object(run([_python(), score, _folder(shape, variant), ids, str(window)]))


def _python() -> Path:
    return make_venv(peers_dir() / "venvs" / "onnx_runtime", PACKAGES)


def _folder(shape: Shape, variant: Variant) -> Path:
    return peers_dir() / "onnx_runtime" / shape.name / _MAKES[variant.name]
