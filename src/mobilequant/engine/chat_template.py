"""The chat template of a package: how a conversation becomes the text that its model was trained on.

Templates are programs of strangers. They run in jinja2's sandbox, which lets them reach neither files nor Python's
insides, and may write and multiply only so much. One that is made to waste time still can: Ctrl-C ends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mobilequant.engine.failure import DAMAGED
from mobilequant.engine.listing import listed_files
from mobilequant.errors import CheckpointError, PackageError, UsageError
from mobilequant.models.json_file import read_json
from mobilequant.models.tokenizer import SETTINGS, content_of

Message = Mapping[str, str]  # {"role": "system", "user" or "assistant", "content": text}

FILE = "chat_template.jinja"
_MOST_CHARACTERS = 10_000_000  # of a rendered conversation, and of one text that is multiplied
_LARGEST_POWER = 1_000


class ChatTemplate:
    """Renders conversations; ``names`` are the special tokens that a template may use: bos_token, eos_token, …"""

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        """Raises PackageError when the source is no template."""
        self._names = names
        try:
            self._template = _environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise PackageError(f"the chat template is damaged: {error}", DAMAGED) from error

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate:
        """The template in chat_template.jinja, else in tokenizer_config.json, each compared with its hash first.

        Raises:
            UsageError: the package has none.
            PackageError: a file is damaged.
        """
        files = listed_files(folder, (FILE, SETTINGS))
        try:
            settings = read_json(files[SETTINGS]) if SETTINGS in files else {}
            source = files[FILE].read_text("utf-8") if FILE in files else _inside(settings.get("chat_template"))
        except (CheckpointError, UnicodeDecodeError) as error:
            raise PackageError(f"{folder}: {error}", DAMAGED) from error
        if source is None:
            raise UsageError(
                f"{folder} has no chat template: its model was not made for conversation",
                "Continue a text with `mobilequant generate`, or quantize a model that follows instructions.",
            )
        names = {name: content_of(token) for name, token in settings.items() if name.endswith("_token")}
        return cls(source, {name: token for name, token in names.items() if token})

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation up to where the model's answer begins.

        Raises:
            UsageError: the template refuses these messages (a role that the model does not know).
            PackageError: the template fails.
        """
        given = {**self._names, "messages": [dict(each) for each in messages], "add_generation_prompt": True}
        try:
            return _bounded(self._template, given)
        except _RefusedError as error:
            raise UsageError(f"the chat template refuses the conversation: {error}", "Leave --system out.") from error
        except Exception as error:  # a program of a stranger can fail in every way
            raise PackageError(f"the chat template fails: {error}", "Use `mobilequant generate`.") from error


class _RefusedError(Exception):
    """What ``raise_exception`` of a template becomes."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also keeps a template from filling the memory by one multiplication."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply and raise what stays small."""
        if operator == "**" and not (abs(left) <= _LARGEST_POWER and abs(right) <= _LARGEST_POWER):
            raise OverflowError("a power is too large")
        sizes = [len(side) if hasattr(side, "__len__") else abs(side) for side in (left, right)]
        if operator == "*" and sizes[0] * sizes[1] > _MOST_CHARACTERS:
            raise OverflowError("a product is too large")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """``{% generation %}`` marks for training what an assistant says; it writes nothing itself."""

    tags = {"generation"}  # noqa: RUF012 (the type of jinja2)

    def parse(self, parser: Parser) -> list[Node]:
        """What stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> Environment:
    """What templates of the field expect to find."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _refuse(message: str) -> NoReturn:
    raise _RefusedError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _bounded(template: Template, given: Mapping[str, Any]) -> str:
    pieces, left = [], _MOST_CHARACTERS
    for piece in template.generate(given):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise OverflowError("it writes without end")
    return "".join(pieces)


def _inside(template: Any) -> str | None:
    """The entry of tokenizer_config.json: a text, or a list of named ones, of which the default counts."""
    if isinstance(template, list):
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
