"""From a validation error to what the user must change: the key, the nearest valid key, the line."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from mobilequant.errors import UsageError, did_you_mean
from mobilequant.pipeline.strict_yaml import Document, Location


def explain(error: ValidationError, document: Document, source: str, root: type[BaseModel]) -> UsageError:
    """The first problem of ``error`` as a ``UsageError``; a misspelt key before the key that it leaves missing."""
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    location: Location = problems[0]["loc"]
    known = document.nearest(location)
    where = f"{source}, line {document.lines[known]}" if known else source
    if problems[0]["type"] == "extra_forbidden":
        return _unknown_key(location, where, root)
    if not location:
        return UsageError(f"{where}: a recipe is a mapping of keys to values", "Start from a preset's file.")
    if problems[0]["type"] == "missing":
        return UsageError(f"{where}: the key {_dotted(location)!r} is missing", "Add it to the recipe.")
    # One value that fits no member of a union is reported once per member, each with a label after the real location.
    same = [problem["msg"] for problem in problems if known and problem["loc"][: len(known)] == known]
    message = ", or: ".join(text.removeprefix("Value error, ") for text in same or [problems[0]["msg"]])
    return UsageError(f"{where}: {_dotted(known or location)}: {message}", "Correct that value of the recipe.")


def _unknown_key(location: Location, where: str, root: type[BaseModel]) -> UsageError:
    key, valid = str(location[-1]), _keys_at(root, location[:-1])
    remedy = f"{did_you_mean(key, valid)}Valid keys: {', '.join(valid)}."
    return UsageError(f"{where}: unknown key {_dotted(location)!r}", remedy)


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that are allowed at a location: those of the model that the path leads to."""
    for part in location:
        if isinstance(part, int):
            continue  # the entry of a list has the list's model
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
