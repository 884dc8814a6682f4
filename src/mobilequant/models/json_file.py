"""The JSON files beside the weights, read without trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mobilequant.errors import CheckpointError

LARGEST_BYTES = 64_000_000
AGAIN = "Get the file again from the model's source."


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError when it is missing, too large, damaged or no object."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise CheckpointError(f"{path} has more than {LARGEST_BYTES:,} bytes.", AGAIN)
        content = json.loads(path.read_bytes(), object_pairs_hook=without_duplicates)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.", AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no valid JSON: {error}.", AGAIN) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object.", AGAIN)
    return content


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object out of its pairs; ValueError when a name stands there twice."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return content
