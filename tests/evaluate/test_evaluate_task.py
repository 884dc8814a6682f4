import math
from dataclasses import dataclass

import pytest
import torch

from mobilequant.errors import DataError
from mobilequant.evaluate.task import answer_bytes, score_choices, score_last_word


@dataclass(frozen=True)
class Question:
    doc_id: int
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    label: int


def encode(text: str) -> list[int]:
    return list(text.encode())


def prefers(letter: str, weight: float = 5.0):
    """A byte model that expects ``letter`` everywhere."""

    def run(tokens):
        logits = torch.zeros(*tokens.shape, 256)
        logits[..., ord(letter)] = weight
        return logits

    return run


def test_accuracy_with_and_without_length():
    # "xxbbbbbb" has more of the expected letter per byte, "x" fewer bytes to be wrong about.
    question = Question(0, ("q",) * 2, (" x", " xxbbbbbb"), 1)
    outcome = score_choices(prefers("b"), [question], encode, bos=None)
    result = outcome.measures
    assert outcome.correct == (False,)
    assert (result["acc"], result["acc_norm"], result["docs"]) == (0.0, 1.0, 1)
    assert 0.0 <= result["acc_low"] < result["acc_high"] < 1.0


def test_contexts_may_differ_and_the_continuation_be_the_same():
    def after_b(tokens):
        logits = torch.zeros(*tokens.shape, 256)
        logits[..., ord("z")] = torch.where(tokens[:, :1] == ord("b"), 5.0, 0.0)
        return logits

    assert score_choices(after_b, [Question(0, ("a", "b"), ("z", "z"), 1)], encode, bos=None).measures["acc"] == 1.0


@pytest.mark.parametrize("batch_tokens", [1, 9, 1000])
def test_answers_belong_to_their_documents_whatever_runs_together(batch_tokens):
    questions = [Question(i, ("q" * (i % 3 + 1),) * 2, ("b" * (i % 4 + 1), "c"), i % 2) for i in range(10)]
    model = prefers("b")
    assert score_choices(model, questions, encode, bos=None, batch_tokens=batch_tokens).correct == (True, False) * 5
    words = [Question(i, ("q" * (i % 4 + 1),), ("bbb"[: i % 3 + 1] + "c" * (i % 2),), 0) for i in range(10)]
    assert score_last_word(model, words, encode, bos=None, batch_tokens=batch_tokens).correct == (True, False) * 5


def test_the_limit_takes_the_first():
    questions = [Question(i, ("q",) * 2, ("b", "c"), int(i >= 3)) for i in range(10)]
    assert score_choices(prefers("b"), questions, encode, bos=None, limit=3).measures["acc"] == 1.0
    assert score_choices(prefers("b"), questions, encode, bos=None).measures["acc"] == 0.3


def test_last_word_is_exact_and_greedy():
    questions = [Question(0, ("q",) * 1, ("bb",), 0), Question(1, ("q",) * 1, ("bc",), 0)]
    outcome = score_last_word(prefers("b"), questions, encode, bos=None)
    result = outcome.measures
    assert outcome.correct == (True, False)
    assert result["acc_se"] == pytest.approx(math.sqrt(0.5 * 0.5 / 2))
    log_total = math.log(math.exp(5.0) + 255)
    assert result["acc"] == 0.5
    assert result["ppl"] == pytest.approx(math.exp(2 * log_total - 7.5), rel=1e-5)


def test_no_requests():
    with pytest.raises(DataError):
        score_choices(prefers("b"), [], encode, bos=None)


def test_bytes_not_characters_and_no_leading_space():
    assert answer_bytes(" é") == 2
    assert answer_bytes(" ") == 1
