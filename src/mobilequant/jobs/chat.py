"""A conversation with a packaged model, whose cache lives on from turn to turn."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import takewhile
from operator import eq

from mobilequant.engine.chat_template import ChatTemplate
from mobilequant.engine.engine import Engine
from mobilequant.engine.generation import new_tokens, require_limit, texts
from mobilequant.engine.sampler import Sampler, Sampling
from mobilequant.errors import UsageError

DEFAULT_CONTEXT = 4096


class ContextFullError(UsageError):
    """A conversation that does not fit any more."""


class Conversation:
    """Asks a model and remembers what was said.

    Only what is new is read: what follows the text that the caches hold, where the rendered conversation begins with
    it; where a template rewrites earlier turns, all behind the tokens that are still the same.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        system: str | None = None,
        max_new_tokens: int = 512,
        context: int = DEFAULT_CONTEXT,
    ) -> None:
        """Raises UsageError where the package has no chat template, or an option is out of range."""
        require_limit(max_new_tokens)
        self._engine = engine
        self._template = ChatTemplate.load(engine.folder)
        self._sampler = Sampler(sampling, engine.logits_scale)
        self._opening = [{"role": "system", "content": system}] if system else []
        self._limit = max_new_tokens
        self._session = engine.session(context)
        self._start = self._session.position
        self._tokens: list[int] = []  # read or said
        self._text = ""  # the same as the template writes it, where all of them belong to it
        self.reset()

    def reset(self) -> None:
        """Forget all that was said but the system's words."""
        self._messages = list(self._opening)
        self._keep([])

    @property
    def room(self) -> int:
        """How many more tokens fit, those of the template included."""
        return self._session.room - len(self._unread())

    @property
    def position(self) -> int:
        """How many positions the caches hold."""
        return self._session.position

    def answer(self, question: str) -> Generator[str, None, None]:
        """Yield the model's answer piece by piece; an answer that is left early counts as far as it went.

        Raises:
            ContextFullError: there is no room for the question and a token of an answer; nothing is remembered then.
            UsageError: the question is no valid Unicode, or the template refuses it.
        """
        messages = [*self._messages, {"role": "user", "content": question}]
        rendered = self._template.render(messages)
        more = self._new_part(rendered)
        if len(more) >= self._session.room:
            raise ContextFullError(
                f"the context is full: {len(more)} tokens are to be read, and there is room for {self._session.room}",
                "Begin again with /new, or give more room with --context.",
            )
        return self._answer(messages, rendered, more)

    def _answer(self, messages: list[dict[str, str]], rendered: str, more: list[int]) -> Generator[str, None, None]:
        vocabulary, said = self._engine.vocabulary, ""
        known = self._tokens[: self._session.position - self._start]
        self._tokens = known + more
        tokens = new_tokens(self._session, more, self._sampler, vocabulary.stop, limit=self._limit, before=known)
        try:
            for piece in texts(self._noted(tokens), vocabulary.tokenizer):
                said += piece
                yield piece
        finally:
            self._messages = [*messages, {"role": "assistant", "content": said}]
            self._text = rendered + said

    def _noted(self, tokens: Iterator[int]) -> Iterator[int]:
        for token in tokens:
            self._tokens.append(token)
            yield token

    def _new_part(self, rendered: str) -> list[int]:
        """Token ids that the session has to read for a rendered conversation."""
        vocabulary = self._engine.vocabulary
        if self._text and rendered.startswith(self._text):
            return self._unread() + vocabulary.encode_more(rendered[len(self._text) :])
        tokens = vocabulary.encode(rendered)
        read = self._tokens[: self._session.position - self._start]
        same = sum(1 for _ in takewhile(bool, map(eq, read, tokens[:-1])))  # the last one is read for its logits
        self._keep(tokens[:same])
        return tokens[same:]

    def _unread(self) -> list[int]:
        """The last token of an answer that was cut off is said, but not read."""
        return self._tokens[self._session.position - self._start :]

    def _keep(self, tokens: list[int]) -> None:
        """Go back to where these tokens had been read."""
        self._session.rewind(self._start + len(tokens))
        self._tokens, self._text = tokens, ""
