"""Documents out of local files: .txt is one document, each line of .jsonl one (its "text")."""

from __future__ import annotations

import json
from pathlib import Path

from mobilequant.errors import DataError


def documents(path: Path) -> list[str]:
    """The documents of a .txt or .jsonl file. Raises DataError for other kinds and for damaged content."""
    kind = path.suffix.lower()
    if kind not in (".txt", ".jsonl"):
        raise DataError(f"{path} is neither .txt nor .jsonl.", 'Convert it; .jsonl has one {"text": …} in a line.')
    try:
        content = path.read_text(encoding="utf-8-sig")  # a byte order mark is no text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path} as UTF-8 text: {error}.", "Save it as UTF-8.") from error
    return [content] if kind == ".txt" else _lines(path, content)


def _lines(path: Path, content: str) -> list[str]:
    # Only "\n" ends a line of .jsonl; splitlines() would also cut at separators that JSON leaves unescaped.
    numbered = enumerate(content.split("\n"), start=1)
    return [_document(path, number, line) for number, line in numbered if line.strip()]


def _document(path: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is no JSON: {error}.", "Write one JSON object in each line.") from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError(f'{path}, line {number} has no string under "text".', 'Name the field of the document "text".')
    return text
