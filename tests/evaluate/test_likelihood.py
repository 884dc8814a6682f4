import math

import pytest
import torch

from mobilequant.errors import DataError
from mobilequant.evaluate.likelihood import Question, answers, likelihoods, split
from mobilequant.pipeline.progress import silent

VOCAB = 40


def encode(text):
    return list(text.encode())


def question(context, continuation):
    return Question(tuple(encode(context)), tuple(encode(continuation)))


def expects_b(tokens):
    """A byte model."""
    logits = torch.zeros(*tokens.shape, 256)
    logits[..., ord("b")] = 5.0
    return logits


def causal(tokens):
    """What it expects depends on all tokens up to the last one."""
    past = (tokens + 1).cumsum(-1)[..., None] * torch.arange(1, VOCAB + 1)
    return torch.sin(past.double()).float() * 3


def questions(count, seed=5):
    generator = torch.Generator().manual_seed(seed)

    def tokens(most):
        size = int(torch.randint(1, most + 1, (), generator=generator))
        return tuple(torch.randint(0, VOCAB, (size,), generator=generator).tolist())

    return [Question((7, *tokens(9)), tokens(5)) for _ in range(count)]


def test_it_is_the_sum_over_the_continuation():
    log_total = math.log(math.exp(5.0) + 255)
    first, second = likelihoods(expects_b, [question("aa", "bbc"), question("a", "bb")])
    assert first.logprob == pytest.approx(5.0 + 5.0 + 0.0 - 3 * log_total, rel=1e-6)
    assert not first.is_greedy
    assert second.logprob == pytest.approx(2 * (5.0 - log_total), rel=1e-6)
    assert second.is_greedy


def test_only_the_context_before_a_token_is_read_and_short_ones_are_filled_up_at_the_end():
    seen = []

    def run(tokens):
        seen.append(tokens[:, :3].tolist())
        return torch.zeros(*tokens.shape, 256)

    likelihoods(run, [Question((1, 2), (3, 4)), Question((5,), (6,))])
    assert seen[0][0] == [1, 2, 3]
    assert seen[0][1][0] == 5


@pytest.mark.parametrize("batch_tokens", [7, 40, 10_000])
def test_a_batch_answers_each_as_alone(batch_tokens):
    asked = questions(23)
    assert answers(causal, asked, batch_tokens, silent) == [likelihoods(causal, [each])[0] for each in asked]


def test_chunks_of_the_softmax_change_nothing(monkeypatch):
    asked = questions(6)
    expected = likelihoods(causal, asked)
    monkeypatch.setattr("mobilequant.evaluate.likelihood.CHUNK_ELEMENTS", 3 * VOCAB)
    assert likelihoods(causal, asked) == expected


def test_every_batch_is_a_step_of_progress():
    steps = []

    def track(items, task, total):
        steps.append(total)
        for item in items:
            steps.append(task)
            yield item

    answers(causal, questions(9), 1, track)
    assert steps == [9, *["zero-shot"] * 9]


def test_an_executor_may_drop_a_bos_that_its_prefix_holds_but_nothing_else_may_be_missing():
    asked = questions(5)
    assert [each.logprob for each in likelihoods(lambda tokens: causal(tokens)[:, 1:], asked)] == [
        each.logprob for each in likelihoods(causal, asked)
    ]
    with pytest.raises(DataError, match="between the prefix"):
        likelihoods(lambda tokens: causal(tokens)[:, 1:], [*asked, Question((7,), (1, 2))])


def test_a_token_over_the_seam_belongs_to_the_continuation():
    def merging(text):
        return encode(text.replace("ab", "\x01"))

    assert split(merging, "xa", "bc", None) == Question((ord("x"),), (1, ord("c")))
    assert split(encode, "xa", "bc", 7) == Question((7, ord("x"), ord("a")), (ord("b"), ord("c")))


def test_nothing_to_condition_on():
    assert split(encode, "", "b", 7) == Question((7,), (ord("b"),))
    for context, continuation in (("", "b"), ("a", "")):
        with pytest.raises(DataError):
            split(encode, context, continuation, None)
