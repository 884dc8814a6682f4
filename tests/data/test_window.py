import random
import string

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.data.text import load_text, make_text
from mobilequant.data.window import after_prefix, refuse_overlap, shared_passage, windows
from mobilequant.errors import DataError, UsageError


def test_in_order_and_remainder_dropped():
    cut = windows(list(range(11)), window=3, count=None, seed=None)
    assert cut.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert cut.dtype == torch.int64
    assert windows(list(range(11)), window=3, count=2, seed=None).tolist() == [[0, 1, 2], [3, 4, 5]]


@given(st.integers(2, 9), st.integers(1, 20), st.integers(0, 2**31))
def test_drawn_windows_are_different_and_repeatable(window, count, seed):
    ids = list(range(200))
    drawn = windows(ids, window=window, count=count, seed=seed)
    assert drawn.shape == (count, window)
    assert torch.equal(drawn, windows(ids, window=window, count=count, seed=seed))
    starts = drawn[:, 0]
    assert (starts % window == 0).all()
    assert len(set(starts.tolist())) == count
    assert torch.equal(drawn, starts[:, None] + torch.arange(window))


def test_seed_matters_and_global_generator_is_untouched():
    state = torch.get_rng_state()
    ids = list(range(1000))
    assert not torch.equal(windows(ids, window=10, count=5, seed=1), windows(ids, window=10, count=5, seed=2))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("length", "count"), [(0, None), (9, 1), (29, 3)])
def test_too_short_tells_both_numbers(length, count):
    with pytest.raises(DataError, match=f"need {(count or 1) * 10} tokens, and it has {length}"):
        windows(list(range(length)), window=10, count=count, seed=0)


@pytest.mark.parametrize(("window", "count"), [(1, 1), (0, None), (8, 0), (8, -1)])
def test_impossible_requests(window, count):
    with pytest.raises(UsageError):
        windows(list(range(100)), window=window, count=count, seed=None)


def noise(seed, length):
    return "".join(random.Random(seed).choices(string.ascii_letters + "  ", k=length))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(149, 200), st.booleans())
def test_every_long_passage_is_found(before, after, length, swap):
    passage = noise(3, 300).replace(" ", "")[:length]
    pair = noise(1, before) + passage + noise(2, 40), noise(4, 300) + passage.upper() + noise(5, after)
    assert shared_passage(*(reversed(pair) if swap else pair)) is not None


@given(st.integers(0, 200), st.integers(0, 200))
def test_short_passages_do_not_count(before, after):
    passage = noise(3, 120).replace(" ", "")[:98]
    assert shared_passage(noise(1, before) + " " + passage + "!", noise(2, after + 100) + "?" + passage) is None


def test_white_space_and_case_do_not_hide():
    passage = (
        "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals, when it was "
        "checked by a violent gust of wind which swept up the streets."
    )
    hidden = passage.upper().replace(" ", "\n  ")
    with pytest.raises(DataError, match="share a passage"):
        refuse_overlap(make_text("a", [noise(1, 900), passage]), make_text("b", [hidden, noise(2, 300)]))


def test_the_length_that_counts_can_be_chosen():
    passage = noise(3, 120).replace(" ", "")[:80]
    pair = noise(1, 90) + passage, passage + noise(2, 200)
    assert shared_passage(*pair) is None and shared_passage(*pair, 50) is not None


def test_short_texts_are_compared_whole():
    assert shared_passage("a short line", noise(1, 100) + "A short  line" + noise(2, 100)) == "a short line"
    assert shared_passage("a short line", noise(1, 300)) is None


def test_a_prefix_that_holds_bos_takes_its_place():
    tokens = torch.tensor([[1, 5, 6], [1, 7, 8]])
    assert after_prefix(tokens, (1,), 1).tolist() == [[5, 6], [7, 8]]
    assert after_prefix(tokens[0], (1, 4), 1).tolist() == [5, 6]
    assert after_prefix(tokens, (9,), 1) is tokens
    assert after_prefix(tokens, (), 1) is tokens
    assert after_prefix(tokens, (1,), None) is tokens


@pytest.mark.model
def test_real_texts_are_disjoint_except_where_they_are_not():
    refuse_overlap(load_text("sotu"), load_text("wiki_squad"))
    refuse_overlap(load_text("mixed"), load_text("wiki_squad"))
    with pytest.raises(DataError, match="national football league"):  # both quote the article on Super Bowl 50
        refuse_overlap(load_text("coqa_stories"), load_text("wiki_squad"))


@pytest.mark.model
@pytest.mark.npm
def test_set_phrases_that_brown_shares_with_speeches_are_no_overlap():
    mixed, brown = load_text("mixed"), load_text("brown")
    refuse_overlap(mixed, brown)
    assert shared_passage(mixed.content, brown.content, 50) is not None
