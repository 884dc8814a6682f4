"""A checkpoint's ``config.json`` read with distrust: every number is checked before anything is sized by it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilequant.errors import CheckpointError

REQUIRED: Any = object()
LARGEST_SIZE = 2**24  # above any real width or vocabulary; stops a hostile file from sizing our memory
FIX_CONFIG = "Compare config.json with the model's original; the download may be damaged or the file edited by hand."


@dataclass(frozen=True)
class Key:
    """Where a value stands in config.json, and what it is when the file omits it."""

    name: str
    default: Any = REQUIRED


@dataclass(frozen=True)
class Config:
    """Checked access to the keys of one config.json; every method raises CheckpointError that names the key."""

    family: str
    raw: Mapping[str, Any]

    def value(self, key: Key) -> Any:
        """The value, or the default where the key is missing or null."""
        found = self.raw.get(key.name)
        if found is not None:
            return found
        if key.default is REQUIRED:
            raise self.wrong(key.name, "is missing")
        return key.default

    def nullable(self, key: Key) -> Any:
        """The value, where null means "none" and only a missing key means the default."""
        return self.raw.get(key.name, None if key.default is REQUIRED else key.default)

    def size(self, key: Key, largest: int = LARGEST_SIZE) -> int:
        """A positive integer."""
        return self.check_size(key.name, self.value(key), largest)

    def optional_size(self, key: Key, largest: int = LARGEST_SIZE) -> int | None:
        """A positive integer or None."""
        found = self.nullable(key)
        return None if found is None else self.check_size(key.name, found, largest)

    def optional_token(self, key: Key) -> int | None:
        """A token id or None; of a list of ids the first."""
        found = self.nullable(key)
        if isinstance(found, list) and found:
            found = found[0]
        if found is None or (isinstance(found, int) and not isinstance(found, bool) and found >= 0):
            return found
        raise self.wrong(key.name, f"must be a token id, but is {found!r}")

    def flag(self, key: Key) -> bool:
        """True or false."""
        found = self.value(key)
        if not isinstance(found, bool):
            raise self.wrong(key.name, f"must be true or false, but is {found!r}")
        return found

    def check_size(self, name: str, found: Any, largest: int = LARGEST_SIZE) -> int:
        """``found`` as a positive integer."""
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= largest:
            raise self.wrong(name, f"must be an integer from 1 to {largest}, but is {found!r}")
        return found

    def check_number(self, name: str, found: Any) -> float:
        """``found`` as a positive finite number."""
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not is_number or not 0 < found <= sys.float_info.max:
            raise self.wrong(name, f"must be a positive number, but is {found!r}")
        return float(found)

    def check_mapping(self, name: str, found: Any) -> Mapping[str, Any]:
        """``found`` as a mapping; null counts as empty."""
        if found is not None and not isinstance(found, Mapping):
            raise self.wrong(name, f"must be a mapping, but is {found!r}")
        return found or {}

    def wrong(self, name: str, what: str) -> CheckpointError:
        """The error for a key that cannot be meant."""
        return CheckpointError(f"config.json of this {self.family} checkpoint: {name} {what}.", FIX_CONFIG)

    def unsupported(self, reason: str) -> CheckpointError:
        """The error for a variant of the family that the integer pipeline does not compute."""
        return CheckpointError(
            f"This {self.family} checkpoint cannot be loaded: {reason}.",
            "Choose a variant of the model without this feature; docs/guide/add-a-family.md lists what is supported.",
        )
