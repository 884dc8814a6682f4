"""OpenVINO: compressed weights, activations rounded to 8 bits in groups at run time (its default on a CPU)."""

from __future__ import annotations

from pathlib import Path

from engine.row import Scenario, Variant
from engine.shapes import Shape, peers_dir
from engine.systems.process import make_venv, run
from engine.systems.system import Command, System, folder_bytes, last_object
from mobilequant.data.cache import publish_folder

PACKAGES = (
    "openvino==2026.4.1",
    "openvino-genai==2026.4.1.0",
    "openvino-tokenizers==2026.4.1.0",
    "nncf==3.4.0",
    "optimum-intel==2.2.0",
    "transformers==5.5.4",
    "torch==2.13.0",
    "numpy==2.4.6",
)
UNWANTED = ("torchvision",)  # comes along, and does not load beside torch for the CPU
_INSIDE = Path(__file__).parents[1] / "inside"
_FORMATS = {
    "int8": ("--weight-format", "int8"),
    "int4 g64": ("--weight-format", "int4", "--group-size", "64", "--sym", "--ratio", "1.0"),
}


class OpenVino(System):
    """int8: per channel, asymmetric. int4: symmetric in groups of 64; the embedding, which is the head, in int8."""

    name = "OpenVINO"
    variants = (Variant(name, "int8", 8, 8), Variant(name, "int4 g64", 4.25, 8))

    def prepare(self, shape: Shape) -> None:
        python = _python()
        for variant in self.variants:
            if not (folder := _folder(shape, variant)).is_dir():
                with publish_folder(folder) as made:
                    export = [python.with_name("optimum-cli"), "export", "openvino", "-m", shape.folder()]
                    run([*export, "--task", "text-generation-with-past", *_FORMATS[variant.name], made])

    def stored_bytes(self, shape: Shape, variant: Variant) -> int:
        folder = _folder(shape, variant)
        return folder_bytes(folder / "openvino_model.bin", folder / "openvino_model.xml")

    def commands(self, shape: Shape, variant: Variant, threads: int, scenario: Scenario) -> list[Command]:
        sizes = [str(scenario.context), str(scenario.decode), str(threads)]
        return [[str(_python()), str(_INSIDE / "openvino_time.py"), str(_folder(shape, variant)), *sizes]]

    def nll(self, shape: Shape, variant: Variant, ids: Path, window: int) -> dict[str, float]:
        score = _INSIDE / "openvino_score.py"
        return last_object(run([_python(), score, _folder(shape, variant), ids, str(window)]))


def _python() -> Path:
    return make_venv(peers_dir() / "venvs" / "openvino", PACKAGES, UNWANTED)


def _folder(shape: Shape, variant: Variant) -> Path:
    return peers_dir() / "openvino" / shape.name / variant.name.replace(" ", "-")
