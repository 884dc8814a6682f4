"""The program ``mobilequant``: its commands, and what becomes of errors.

exit code   0 done · 1 unexpected · 2 usage · 3 checkpoint · 4 data · 5 resources · 6 lowering · 7 package
            8 training · 9 `diff` found a difference · 130 interrupted
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mobilequant import __version__
from mobilequant.cli import output
from mobilequant.cli.ablate import ablate
from mobilequant.cli.bench import bench
from mobilequant.cli.chat import chat
from mobilequant.cli.demo import demo
from mobilequant.cli.diff import diff
from mobilequant.cli.evaluate import evaluate
from mobilequant.cli.generate import generate
from mobilequant.cli.inspect import inspect
from mobilequant.cli.models import models
from mobilequant.cli.quantize import quantize
from mobilequant.cli.recipes import recipes
from mobilequant.errors import MobileQuantError, ResourceError
from mobilequant.pipeline import parallel

INTERRUPTED = 130
_RESUMABLE = ("quantize", "demo")

app = typer.Typer(
    name="mobilequant",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Language models on phones, in integers only: quantize, check bit for bit, run.\n\n"
    "Start with: mobilequant quantize smollm2-135m --preset w8a8-fast --out smollm2-w8a8",
)
app.command()(quantize)
app.command(name="eval")(evaluate)
app.command()(generate)
app.command()(chat)
app.command()(bench)
app.command()(diff)
app.command()(inspect)
app.command()(models)
app.command()(recipes)
app.command()(demo)
app.command()(ablate)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mobilequant {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of every error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options before the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; nothing but results goes to standard output."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given, prog_name="mobilequant")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return _interrupted(given) if code == INTERRUPTED else code
    except MobileQuantError as error:
        if "--debug" in given:
            traceback.print_exc()
        output.tell(f"{_speaker()}Error: {error.message}\n{error.remedy}")
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(given)
    except MemoryError:
        output.tell("Error: there is not enough memory\nClose other programs, or choose a smaller model or text.")
        return ResourceError.exit_code
    except Exception as error:  # whatever it is, the user gets a sentence and a file, not a wall of text
        return _unexpected(error, "--debug" in given)
    return 0


def _speaker() -> str:
    """Which process speaks, where it is not the first of a run; the error may be there alone."""
    return f"Process {parallel.rank()}: " if parallel.rank() else ""


def _interrupted(given: list[str]) -> int:
    if parallel.rank():
        return INTERRUPTED  # the first process says it
    output.tell("\nInterrupted.")
    if next((word for word in given if not word.startswith("-")), "") in _RESUMABLE:
        again = given if "--resume" in given else [*given, "--resume"]
        output.tell(f"Finished units are kept. Continue with: {shlex.join(['mobilequant', *again])}")
    return INTERRUPTED


def _unexpected(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    else:
        output.tell(f"{_speaker()}Unexpected error: {type(error).__name__}: {error}")
        output.tell(f"{_saved_traceback()}`mobilequant --debug …` shows the traceback. Please report it.")
    return 1


def _saved_traceback() -> str:
    """Keep the traceback in the cache folder and say where; nothing where that cannot be written."""
    from mobilequant.data.cache import cache_dir

    text = traceback.format_exc()
    try:
        path = cache_dir() / "last-error.log"
        path.write_text(text, encoding="utf-8")
    except (OSError, MobileQuantError):
        return ""
    return f"The traceback is in {path}. "
