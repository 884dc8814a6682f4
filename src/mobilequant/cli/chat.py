"""``mobilequant chat``."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import (
    GreedyOption,
    KernelsOption,
    LogFormat,
    MaxNewTokensOption,
    PackageArgument,
    PenaltyOption,
    SamplingSeedOption,
    TemperatureOption,
    ThreadsOption,
    TopKOption,
    TopPOption,
)

if TYPE_CHECKING:
    from mobilequant.jobs.chat import Conversation

_EXIT, _NEW = "/exit", "/new"


def chat(
    package: PackageArgument,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="What the model is told first, where it knows that.")
    ] = None,
    context: Annotated[
        int, typer.Option("--context", min=1, help="Room for so many tokens; more takes memory.")
    ] = 4096,
    max_new_tokens: MaxNewTokensOption = 512,
    greedy: GreedyOption = False,
    temperature: TemperatureOption = 0.8,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SamplingSeedOption = 0,
    threads: ThreadsOption = None,
    kernels: KernelsOption = None,
) -> None:
    """Talk with a model that follows instructions: a line is a question, the answer comes as it is computed.

    Example: mobilequant chat smollm2-w8a8

    /new begins again, /exit or Ctrl-D ends. Questions may also come through a pipe, one a line.
    """
    from mobilequant.engine.engine import Engine
    from mobilequant.engine.sampler import Sampling
    from mobilequant.jobs.chat import Conversation

    log.configure(LogFormat.RICH)
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, greedy, seed)
    engine = Engine.load(package, threads=threads, kernels=kernels)
    talk(Conversation(engine, sampling, system=system, max_new_tokens=max_new_tokens, context=context))


def talk(conversation: Conversation) -> None:
    """Questions from standard input, answers to standard output, all else to standard error."""
    if sys.stdin.isatty():
        output.tell(f"Ask something. {_NEW} begins again, {_EXIT} or Ctrl-D ends, Ctrl-C stops an answer.")
        with suppress(ImportError):  # where there is no such library, lines cannot be edited
            import readline  # noqa: F401
    while (question := _question()) is not None:
        if question == _NEW:
            conversation.reset()
        elif question:
            _answer(conversation, question)


def _question() -> str | None:
    """The next line without white space around it; None at the end.

    Raises:
        UsageError: it is no valid Unicode.
    """
    from mobilequant.errors import UsageError

    try:
        line = input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    except UnicodeDecodeError as error:
        raise UsageError("the question is no valid Unicode", "Give it as UTF-8.") from error
    return None if line == _EXIT else line


def _answer(conversation: Conversation, question: str) -> None:
    from mobilequant.jobs.chat import ContextFullError

    try:
        with closing(conversation.answer(question)) as pieces:
            for piece in pieces:
                output.write_text(piece)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    except ContextFullError as error:
        output.tell(f"{error.message}\n{error.remedy}")
        return
    output.write_text("\n")
    if conversation.room <= 0:
        output.tell(f"The context is full: {_NEW} begins again, {_EXIT} ends.")
