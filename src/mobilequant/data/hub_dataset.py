"""Documents of a data set on the Hugging Face hub; needs a connection, or a snapshot that the hub client has kept."""

from __future__ import annotations

from pathlib import Path

from mobilequant.data import text_file
from mobilequant.errors import DataError

SUFFIXES = (".jsonl", ".txt", ".parquet")


def documents(spec: str) -> list[str]:
    """The documents of ``<data set>[:<pattern>]``, for example ``Salesforce/wikitext:wikitext-2-raw-v1/test*``.

    The pattern picks files of the repository by path; all .jsonl, .txt and .parquet files that it matches are read in
    the order of their names, with the field "text" as the document. Raises DataError.
    """
    repo, _, pattern = spec.partition(":")
    folder = _snapshot(repo, pattern or "*")
    files = sorted(file for file in folder.rglob(pattern or "*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise DataError(
            f"The data set {repo} has no {', '.join(SUFFIXES)} file that matches {pattern or '*'!r}.",
            "Look at its file list on the hub and give a pattern: hub:<data set>:<pattern>.",
        )
    return [document for file in files for document in _read(file)]


def _snapshot(repo: str, pattern: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=[pattern]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"Cannot get the data set {repo} from the hub: {reason}",
            "Check the name and the connection, or save the text as a .txt or .jsonl file and give its path.",
        ) from error


def _read(file: Path) -> list[str]:
    if file.suffix != ".parquet":
        return text_file.documents(file)
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{file.name} is a parquet file, which needs pyarrow.", "Run: pip install pyarrow") from error
    try:
        column = parquet.read_table(file, columns=["text"]).column("text")
    except (ArrowException, KeyError, OSError) as error:
        raise DataError(f'{file.name} has no readable column "text": {error}', "Choose another file.") from error
    return [str(value) for value in column.to_pylist()]
