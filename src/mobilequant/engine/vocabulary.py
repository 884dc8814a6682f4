"""Between text and the token ids of a package: its tokenizer, the token before every text, and those that end one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilequant.engine.failure import DAMAGED
from mobilequant.engine.listing import listed_files
from mobilequant.errors import CheckpointError, PackageError, UsageError
from mobilequant.models.json_file import read_json
from mobilequant.models.tokenizer import FILE, SETTINGS, Tokenizer

_GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Vocabulary:
    """``leading`` is to be read before every text, or None; with ``leading_held``, the constant prefix holds it.

    ``stop`` are the tokens that end a text or an answer.
    """

    tokenizer: Tokenizer
    leading: int | None
    leading_held: bool
    stop: frozenset[int]

    @classmethod
    def load(
        cls, folder: Path, *, vocab_size: int, leading_token: int | None, prefix_tokens: Sequence[int]
    ) -> Vocabulary:
        """What the files of a package say, each compared with its hash first.

        Raises:
            PackageError: there is no tokenizer, or a file is damaged.
        """
        files = listed_files(folder, (FILE, SETTINGS, _GENERATION))
        if FILE not in files:
            raise PackageError(
                f"{folder} has no {FILE}", "Quantize a model that has one; token ids can be run without."
            )
        try:
            tokenizer = Tokenizer.load(folder, num_rows=vocab_size)
            more = read_json(files[_GENERATION]).get("eos_token_id") if _GENERATION in files else None
        except CheckpointError as error:
            raise PackageError(error.message, DAMAGED) from error
        ends = [tokenizer.eos, *(more if isinstance(more, list) else [more])]
        held = leading_token is not None and list(prefix_tokens[:1]) == [leading_token]
        return cls(tokenizer, leading_token, held, frozenset(end for end in ends if type(end) is int))

    def encode(self, text: str) -> list[int]:
        """Token ids to read for a text: the leading token before it, unless the text spells it or the prefix holds it.

        Raises:
            UsageError: the text is no valid Unicode.
            CheckpointError: the model has no embedding for a token.
        """
        ids = self.encode_more(text)
        if self.leading is None:
            return ids
        rest = ids[1:] if ids[:1] == [self.leading] else ids
        return rest if self.leading_held else [self.leading, *rest]

    def encode_more(self, text: str) -> list[int]:
        """Token ids of a text that stands behind another.

        Raises:
            UsageError: the text is no valid Unicode.
            CheckpointError: the model has no embedding for a token.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:  # bytes of a command line that are no text arrive as halves of characters
            raise UsageError("the text is no valid Unicode", "Give it as UTF-8.") from error
        return self.tokenizer.encode(text)
