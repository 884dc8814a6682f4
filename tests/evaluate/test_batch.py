from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.evaluate.batch import batch_size, batches, tokens_at_once


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_every_sequence_runs_once_among_its_likes_and_in_little_room(lengths, tokens):
    found = batches(lengths, tokens)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    in_order = [lengths[index] for batch in found for index in batch]
    assert in_order == sorted(lengths, reverse=True)
    for batch in found:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= tokens
    assert all(len(batch) == batch_size(lengths[batch[0]], tokens) for batch in found[:-1])


@pytest.mark.parametrize("vocab_size", [32_000, 49_152, 262_144])
def test_logits_of_a_batch_take_a_fortieth_of_the_memory_at_most(monkeypatch, vocab_size):
    memory = 80_000_000_000
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
    room = tokens_at_once("cuda", vocab_size)
    assert 4 * vocab_size * room <= memory / 40 < 4 * vocab_size * (room + 1)


def test_a_cpu_has_one_sequence_at_a_time():
    assert batches([3, 9, 1], tokens_at_once("cpu", 100)) == [[1], [0], [2]]
