"""YAML as configuration wants it: safe, no duplicate keys, no aliases, and every value knows its line."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from mobilequant.errors import UsageError

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file: its value, and the 1-based line of every key and list entry."""

    value: Any
    lines: dict[Location, int]

    def nearest(self, location: Location) -> Location:
        """The location itself, or the innermost thing around it that the file really has."""
        ends = range(len(location), 0, -1)
        return next((location[:end] for end in ends if location[:end] in self.lines), ())


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, which otherwise keeps the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in seen:
                message = f"the key {key.value!r} appears twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(text: str, source: str) -> Document:
    """Parse one YAML document; ``source`` is the file name that errors show.

    Raises:
        UsageError: the text is not YAML, repeats a key, uses an alias, or is nested without end.
    """
    try:
        _refuse_aliases(text, source)
        node = yaml.compose(text, _UniqueKeyLoader)
        value = yaml.load(text, _UniqueKeyLoader)
        return Document(value, dict(_lines(node, ())) if node else {})
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{line}: {error.problem}", "Correct that line of the file.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{source} cannot be read as YAML: {error}", "Correct the file.") from None


def _refuse_aliases(text: str, source: str) -> None:
    """With aliases a file of ten lines can stand for billions of values."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise UsageError(f"{source}{line}: aliases are not allowed", "Write the value out where it is meant.")


def _lines(node: yaml.Node, location: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*location, key.value), key.start_mark.line + 1
            yield from _lines(value, (*location, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*location, index), value.start_mark.line + 1
            yield from _lines(value, (*location, index))
