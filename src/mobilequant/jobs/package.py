"""A whole package folder: the integer graph with all that stands beside it, written together and read together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from mobilequant.errors import PackageError
from mobilequant.integer.graph import IntegerGraph
from mobilequant.integer.package import (
    MANIFEST,
    first_problem,
    load_graph,
    save_graph,
    verify_files,
    write_manifest,
)
from mobilequant.jobs.measure import scheme_info
from mobilequant.jobs.simulation import save_simulation
from mobilequant.models.quantized import QuantizedModel
from mobilequant.pipeline.recipe import Recipe, recipe_yaml
from mobilequant.report.model_card import write_model_card
from mobilequant.report.schema import ModelInfo, Result

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
RECIPE = "recipe.yaml"


def _require_printable(text: str) -> str:
    """What is shown on a terminal may not steer it."""
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be printed")
    return text


Printable = Annotated[str, AfterValidator(_require_printable)]


class _Source(BaseModel):
    name: Printable
    sha256: str


class _Calibration(BaseModel):
    text: str
    sha256: str


class _Training(_Calibration):
    openings: _Calibration | None = None  # where the model wrote the text itself


class About(BaseModel):
    """What the manifest tells about where a package comes from, as far as a command reads it."""

    model_config = ConfigDict(frozen=True, strict=True)
    model: _Source
    scheme: Printable
    sixteen_bit: list[str]
    eight_bit: list[str] = []  # absent before sixteen_bit was a method
    recipe_sha256: str
    leading_token: int | None
    calibration: _Calibration
    training: _Training | None = None  # where the recipe names a text for it

    def texts(self) -> list[_Calibration]:
        """What the package was tuned on; of a text that the model wrote, what that was continued from."""
        trained = self.training and (self.training.openings or self.training)
        return [self.calibration, *([trained] if trained else [])]


@dataclass(frozen=True)
class Package:
    """An opened package: its folder, what the manifest says about it, and the checked graph."""

    folder: Path
    about: About
    graph: IntegerGraph


def open_package(folder: Path) -> Package:
    """Read a package and check it, the hash of every file included.

    Raises:
        PackageError: no package lies there, or it is damaged.
    """
    manifest = verify_files(folder)
    graph = load_graph(folder)
    try:
        about = About.model_validate(manifest)
    except ValidationError as error:
        raise PackageError(f"{folder / MANIFEST}: {first_problem(error)}", "Quantize the model again.") from error
    if about.leading_token is not None and not 0 <= about.leading_token < graph.vocab_size:
        raise PackageError(f"{folder / MANIFEST}: leading_token is outside the vocabulary", "Quantize the model again.")
    return Package(folder, about, graph)


def write_package(
    folder: Path, graph: IntegerGraph, quantized: QuantizedModel, recipe: Recipe, about: Mapping[str, Any]
) -> None:
    """Fill an empty folder with a package; the manifest comes last and holds the hash of every other file."""
    save_graph(graph, folder)
    save_simulation(quantized, folder)
    (folder / RECIPE).write_text(recipe_yaml(recipe), encoding="utf-8")
    write_model_card(folder / "README.md", _card(graph, about))
    if quantized.model.tokenizer_dir:
        _copy_tokenizer(quantized.model.tokenizer_dir, folder)
    write_manifest(folder, about)
    for path in folder.iterdir():
        path.chmod(0o644)  # some libraries write private files; a package is there to be shared


def _card(graph: IntegerGraph, about: Mapping[str, Any]) -> Result:
    """What the model card says before anything has been scored."""
    return Result(
        model=ModelInfo(name=_title(about["model"]["name"]), family=about["model"]["family"]),
        schemes=(scheme_info(graph, about["scheme"]),),
        hashes={"model": about["model"]["sha256"], "recipe": about["recipe_sha256"]},
    )


def _title(model: str) -> str:
    """The name to publish: of a local model its last part only, since its path tells about somebody's machine."""
    return Path(model).name if Path(model).is_absolute() else model


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
