import math
from dataclasses import dataclass

import pytest
import torch

from mobilequant.errors import DataError
from mobilequant.evaluate.task import answer_bytes, likelihood, score_choices, score_last_word, split


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
        logits = torch.zeros(len(tokens), 256)
        logits[:, ord(letter)] = weight
        return logits

    return run


def test_likelihood_is_the_sum_over_the_continuation():
    found = likelihood(prefers("b"), encode("aa"), encode("bbc"))
    log_total = math.log(math.exp(5.0) + 255)
    assert found.logprob == pytest.approx(5.0 + 5.0 + 0.0 - 3 * log_total, rel=1e-6)
    assert not found.is_greedy
    assert likelihood(prefers("b"), encode("aa"), encode("bb")).is_greedy


def test_only_the_context_before_a_token_is_read():
    seen = []

    def run(tokens):
        seen.append(tokens.tolist())
        return torch.zeros(len(tokens), 256)

    likelihood(run, [1, 2], [3, 4])
    assert seen == [[1, 2, 3]]


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
        logits = torch.zeros(len(tokens), 256)
        logits[:, ord("z")] = 5.0 if tokens[0] == ord("b") else 0.0
        return logits

    assert score_choices(after_b, [Question(0, ("a", "b"), ("z", "z"), 1)], encode, bos=None).measures["acc"] == 1.0


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


def test_a_token_over_the_seam_belongs_to_the_continuation():
    def merging(text: str) -> list[int]:
        return encode(text.replace("ab", "\x01"))

    assert split(merging, "xa", "bc", None) == ([ord("x")], [1, ord("c")])
    assert split(encode, "xa", "bc", 7) == ([7, ord("x"), ord("a")], [ord("b"), ord("c")])


def test_nothing_to_condition_on():
    assert split(encode, "", "b", 7) == ([7], [ord("b")])
    for context, continuation in (("", "b"), ("a", "")):
        with pytest.raises(DataError):
            split(encode, context, continuation, None)
    with pytest.raises(DataError):
        score_choices(prefers("b"), [], encode, bos=None)


def test_bytes_not_characters_and_no_leading_space():
    assert answer_bytes(" é") == 2
    assert answer_bytes(" ") == 1
