import itertools

import pytest
import torch

from mobilequant.arch import registry
from mobilequant.models.decoder import forward
from mobilequant.models.sampler import draw, write
from mobilequant.models.tiny import tiny_model

WINDOW = 20


def chances(count, seed=0):
    return torch.rand(count, WINDOW, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def always(tokens):
    return itertools.repeat(tokens)


def test_tokens_come_as_often_as_the_softmax_says():
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0])
    even = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn = draw(logits.expand(len(even), -1), even)
    torch.testing.assert_close(drawn.bincount(minlength=4) / len(even), logits.softmax(-1), rtol=0, atol=2e-4)


def test_extreme_chances_and_impossible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    assert draw(logits, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 3, 3]


@pytest.mark.parametrize("family", registry.model_types())
def test_each_token_is_drawn_from_the_whole_text_in_front_of_it(family):
    """Token by token out of the cache as from one forward pass over the finished windows."""
    model = tiny_model(family)
    written = write(model, chances(4), [always([first, 3]) for first in (5, 9, 13, 17)], frozenset())
    assert written[:, :2].tolist() == [[5, 3], [9, 3], [13, 3], [17, 3]]
    logits = forward(model, written)
    expected = torch.stack([draw(logits[:, place - 1], chances(4)[:, place]) for place in range(2, WINDOW)], dim=1)
    assert torch.equal(written[:, 2:], expected)


def test_a_window_does_not_depend_on_those_beside_it():
    model, many = tiny_model("llama"), chances(6)
    openings = [[1], [2, 3], [4], [5, 6, 7], [8], [9]]
    together = write(model, many, [always(each) for each in openings], frozenset({0, 50}))
    for number, opening in enumerate(openings):
        alone = write(model, many[number : number + 1], [always(opening)], frozenset({0, 50}))
        assert torch.equal(alone[0], together[number])


def test_a_document_that_ends_is_followed_by_the_next_opening():
    model = tiny_model("llama")
    ends = frozenset(range(0, 96, 2))  # every other token, so that it happens soon
    openings = iter([[40, 1, 40], [42], [44, 44]] + [[46]] * WINDOW)
    free = write(model, chances(1), [always([40, 1, 40])], frozenset())[0].tolist()
    written = write(model, chances(1), [openings], ends)[0].tolist()
    first_end = next(place for place, token in enumerate(free) if place > 2 and token in ends)
    assert written[: first_end + 1] == [*free[:first_end], 42]
    given = [token for token in written if token in ends]  # drawn ones never stand there
    assert given[:5] == [40, 40, 42, 44, 44] and set(given[5:]) <= {46}


def test_what_is_given_may_be_longer_than_the_window():
    assert write(tiny_model("llama"), chances(1), [always(range(90))], frozenset())[0].tolist() == list(range(WINDOW))
