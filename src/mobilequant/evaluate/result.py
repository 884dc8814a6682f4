"""One evaluation as one JSON file: scores never travel without what they were measured with.

The file has sorted keys, no NaN and no infinity, and one final newline, so that equal results are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from mobilequant.errors import DataError
from mobilequant.evaluate.protocol import Protocol
from mobilequant.evaluate.sqnr import SqnrRow
from mobilequant.pipeline.atomic_file import write_text
from mobilequant.pipeline.environment import Environment


class Evaluation(BaseModel):
    """What ``eval`` measures. Scores are keyed by executor: "float", "float_prefix", "fake_quant", "integer"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str
    scheme: str = ""
    settings: dict[str, JsonValue]  # everything the user chose; hashed into config_hash
    config_hash: str
    hashes: dict[str, str] = {}  # what was read: package, checkpoint, tokenizer
    environment: Environment
    protocol: Protocol | None = None
    scores: dict[str, dict[str, float]] = {}  # executor → measure → value
    tasks: dict[str, dict[str, dict[str, float]]] = {}  # task → executor → measure → value
    sqnr: tuple[SqnrRow, ...] = ()


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def config_hash(settings: dict[str, JsonValue]) -> str:
    """sha256 of the settings, independent of the order of their keys."""
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write the JSON file, whole or not at all.

    Raises:
        ResourceError: the place cannot be written.
        ValueError: a score is NaN or infinite.
    """
    content = json.dumps(
        evaluation.model_dump(mode="python"), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False
    )
    write_text(path, content + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what ``write_evaluation`` wrote.

    Raises:
        DataError: the file is missing, is not JSON, or is not an evaluation of this version.
    """
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{path} is not an evaluation result: {error}", "Write it again with `mobilequant eval`."
        ) from error
