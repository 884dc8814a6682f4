"""``mobilequant diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import Format, FormatOption, LogFormat, PackageArgument, ThreadsOption
from mobilequant.errors import UsageError

DIFFERENT = 9  # exit code
_SIDE = "engine, engine:KERNELS, reference, or a dump (.npz)."


def diff(
    package: PackageArgument,
    left: Annotated[str, typer.Option("--left", metavar="EXECUTOR", help=_SIDE)] = "engine",
    right: Annotated[str, typer.Option("--right", metavar="EXECUTOR", help=_SIDE)] = "reference",
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", show_default="a sentence", help="What is run.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="IDS", help="Token ids instead of a text: 1,2,3.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep the left side's tensors as a dump (.npz).")
    ] = None,
    threads: ThreadsOption = None,
    output_format: FormatOption = Format.TABLE,
) -> None:
    """Find the first tensor in which two executors of a package differ; the exit code is 0 if there is none, else 9.

    Example: mobilequant diff smollm2-w8a8 --left engine:avx2 --right reference --text "The capital of France is"

    A backend of yours takes part through a dump: an .npz file of its tensors, with the token ids as "tokens".
    """
    from mobilequant.jobs.diff import diff as run

    log.configure(LogFormat.RICH)
    ids = None if tokens is None else _token_ids(tokens)
    found = run(package, left=left, right=right, text=text, tokens=ids, save=save, threads=threads)
    if output_format is Format.JSON:
        output.write_json(found)
    else:
        output.write_facts(f"{left} and {right}", _facts(found))
    if found["difference"]:
        raise typer.Exit(DIFFERENT)


def _token_ids(words: str) -> list[int]:
    try:
        return [int(word) for word in words.split(",")]
    except ValueError as error:
        raise UsageError(f"{words!r} are no token ids", "Separate them by commas: --tokens 1,2,3.") from error


def _facts(found: dict[str, Any]) -> dict[str, str]:
    alone = {side: found[f"only_{side}"] for side in ("left", "right")}
    facts = {
        "tokens": str(found["tokens"]),
        "tensors compared": str(found["compared"]),
        **{f"only on the {side}": f"{len(names)}, first {names[0]}" for side, names in alone.items() if names},
    }
    first = found["difference"]
    if first is None:
        return {**facts, "difference": "none: every code is equal"}
    facts |= {"first difference": first["tensor"], "operation": first["kind"] or "unknown"}
    if first["index"] is None:
        return {**facts, "shapes": f"{first['left_shape']} and {first['right_shape']}"}
    share = f"{first['different']} of {first['codes']}"
    return {**facts, "codes that differ": share, "first index": str(first["index"]), "codes": str(first["values"])}
