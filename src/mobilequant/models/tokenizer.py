"""Text to token ids and back, on top of the tokenizers library; no special token is ever added unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from mobilequant.errors import CheckpointError
from mobilequant.models.json_file import read_json

REPLACEMENT = "\ufffd"  # what an unfinished UTF-8 sequence decodes to
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"


class Tokenizer:
    """The tokenizer of a checkpoint. ``bos`` and ``eos`` are the ids that its settings name, or None.

    ``num_rows``: rows of the model's embedding. A tokenizer may know more tokens, as long as no text uses them.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        *,
        bos: int | None = None,
        eos: int | None = None,
        num_rows: int | None = None,
    ) -> None:
        self._inner = inner
        self.bos = bos
        self.eos = eos
        self._num_rows = num_rows

    @classmethod
    def load(cls, folder: Path, *, num_rows: int | None = None) -> Tokenizer:
        """The tokenizer of a Hugging Face folder. Raises CheckpointError when tokenizer.json is missing or damaged."""
        path = folder / FILE
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no {FILE}.",
                "Save the model's fast tokenizer there: AutoTokenizer.from_pretrained(…).save_pretrained(folder).",
            )
        try:
            inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
            raise CheckpointError(
                f"{path} is damaged: {error}", "Get the file again from the model's source."
            ) from error
        settings = read_settings(folder)
        ids = {name: inner.token_to_id(content_of(settings.get(f"{name}_token"))) for name in ("bos", "eos")}
        return cls(inner, **ids, num_rows=num_rows)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens only where the text spells them.

        Raises CheckpointError when the model has no embedding for one of them.
        """
        ids = self._inner.encode(text, add_special_tokens=False).ids
        if self._num_rows is not None and max(ids, default=0) >= self._num_rows:
            raise CheckpointError(
                f"The tokenizer gives the token id {max(ids)}, but the model has only {self._num_rows} embeddings.",
                "Put the tokenizer.json that belongs to this model into its folder.",
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    @property
    def special(self) -> frozenset[int]:
        """Tokens that are no text: BOS, EOS, and all that the checkpoint marks as special."""
        marked = (token for token, about in self._inner.get_added_tokens_decoder().items() if about.special)
        return frozenset(marked) | {token for token in (self.bos, self.eos) if token is not None}

    def first_special(self) -> int | None:
        """The token that the checkpoint's own template puts before every text, or None."""
        return next(iter(self._inner.encode("").ids), None)

    def stream(self) -> TextStream:
        """A decoder for tokens that arrive one by one."""
        return TextStream(self)


class TextStream:
    """Turns tokens into text as they come and holds back what is not yet a whole character.

    A token's text depends on the one before it (leading spaces, byte pieces), so each new token is decoded together
    with those of the last emitted piece.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._emitted: list[int] = []  # tokens of the last piece, as context
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """The text that became complete with this token, maybe empty."""
        self._waiting.append(token)
        piece = self._piece()
        return "" if piece.endswith(REPLACEMENT) else self._emit(piece)

    def finish(self) -> str:
        """What is still held back; an unfinished character shows as the replacement character."""
        return self._emit(self._piece())

    def _piece(self) -> str:
        context = self._tokenizer.decode(self._emitted)
        return self._tokenizer.decode([*self._emitted, *self._waiting])[len(context) :]

    def _emit(self, piece: str) -> str:
        if piece:
            self._emitted, self._waiting = self._waiting, []
        return piece


def read_settings(folder: Path) -> dict[str, Any]:
    """The tokenizer_config.json of a folder, empty when there is none. Raises CheckpointError when it is damaged."""
    path = folder / SETTINGS
    return read_json(path) if path.is_file() else {}


def adds_bos(folder: Path) -> bool | None:
    """Whether the checkpoint's own tokenizer puts BOS first; None when its folder does not tell.

    Told by "add_bos_token" in tokenizer_config.json, else by the post-processor in tokenizer.json.
    """
    stated = read_settings(folder).get("add_bos_token")
    if isinstance(stated, bool):
        return stated
    if not (folder / FILE).is_file():
        return None
    tokenizer = Tokenizer.load(folder)
    return tokenizer.bos is not None and tokenizer.first_special() == tokenizer.bos


def content_of(token: Any) -> str:
    """A special token in tokenizer_config.json is a string or {"content": string, …}."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
