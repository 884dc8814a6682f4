"""One row of the table: a model, a recipe, and the seed of the windows that it is calibrated and trained on.

    WORK/<model>/<row>-<recipe>/          package, parts of the scores, log; <recipe> are 8 digits of its hash
    WORK/<model>/<row>-<recipe>/<scoring>.json   the row when it is done; <scoring> are 8 digits of the settings' hash
    WORK/<model>/float-<model>/           answers of the float model, which all its rows share

So a recipe, a text or a number of tokens that was changed begins a row of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mobilequant.jobs.fingerprint import settings_sha256
from mobilequant.methods.registry import METHODS
from mobilequant.models.sources.builtin import builtins
from mobilequant.pipeline.recipe import MethodEntry, Recipe, load_recipe, recipe_hash

RECIPES = Path(__file__).parents[1] / "recipes"
_DIGITS = 8
# Passes through the model for each token: teacher, student and its gradients; four models of which one is the slow
# integer one; float and integer model, about three choices of a hundred tokens to a document.
_TRAINING_PASSES, _SCORING_PASSES, _TOKENS_OF_A_DOCUMENT = 4, 7, 1500


@dataclass(frozen=True)
class Scoring:
    """What every package is scored on."""

    texts: tuple[str, ...]
    tokens: int
    window: int
    tasks: tuple[str, ...]
    documents: int

    @property
    def digits(self) -> str:
        return settings_sha256(asdict(self))[:_DIGITS]


@dataclass(frozen=True)
class Row:
    """``name`` is a preset, a recipe of bench/recipes or a YAML file; behind an @, the seed of its windows."""

    model: str
    name: str

    @property
    def title(self) -> str:
        return Path(self.name).name.replace(".yaml", "")

    @property
    def group(self) -> str:
        """The title without the seed: rows of one group differ in nothing else."""
        return self.title.partition("@")[0]

    @cached_property
    def recipe(self) -> Recipe:
        stem, _, seed = self.name.partition("@")
        own = RECIPES / f"{stem}.yaml"
        recipe = load_recipe(own if own.exists() else stem)
        if not seed:
            return recipe
        drawn = {name: getattr(recipe, name) for name in ("data", "training") if getattr(recipe, name)}
        return recipe.model_copy(
            update={name: data.model_copy(update={"seed": int(seed)}) for name, data in drawn.items()}
        )

    def folder(self, work: Path) -> Path:
        return model_folder(work, self.model) / f"{self.title}-{recipe_hash(self.recipe)[:_DIGITS]}"

    def result(self, work: Path, scoring: Scoring) -> Path:
        return self.folder(work) / f"{scoring.digits}.json"

    def found(self, work: Path, scoring: Scoring) -> dict[str, Any] | None:
        """The scores, where the row is done."""
        path = self.result(work, scoring)
        return json.loads(path.read_text()) if path.exists() else None

    def extends(self, other: Row) -> bool:
        """Whether this row begins with all that the other does, and goes on."""
        mine, its = (each.recipe.model_dump(exclude={"summary", "measured", "methods"}) for each in (self, other))
        methods = other.recipe.methods
        longer = len(self.recipe.methods) > len(methods)
        return self.model == other.model and mine == its and longer and self.recipe.methods[: len(methods)] == methods

    def cost(self, scoring: Scoring) -> float:
        """What the time of a row grows with: tokens through the model, times its weights."""
        recipe = self.recipe
        trained = recipe.training or recipe.data
        tokens = recipe.data.window * recipe.data.count * len(recipe.methods)
        tokens += _TRAINING_PASSES * trained.window * trained.count * sum(map(_epochs, recipe.methods))
        tokens += _SCORING_PASSES * scoring.tokens * len(scoring.texts)
        tokens += _TOKENS_OF_A_DOCUMENT * scoring.documents * len(scoring.tasks)
        return float(tokens * _parameters(self.model))


def rows(models: Iterable[str], recipes: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """All of them; seed 0 is the recipe as it stands, and a recipe that names its seed has that one only."""
    names = [
        name if "@" in name or seed == 0 else f"{name}@{seed}"
        for name in recipes
        for seed in (seeds if "@" not in name else seeds[:1])
    ]
    return [Row(model, name) for model in models for name in names]


def model_folder(work: Path, model: str) -> Path:
    return work / Path(model).name


def _epochs(entry: MethodEntry) -> int:
    config = METHODS[entry.name].Config.model_validate(entry.options)
    return getattr(config, "epochs", 0)


def _parameters(model: str) -> int:
    return next((builtin.num_parameters for builtin in builtins() if builtin.name == model), 1)
