import hashlib

import numpy as np
import pytest
import torch

from mobilequant.errors import DataError
from mobilequant.evaluate.protocol import protocol, window_count


def test_the_record_counts_predictions():
    found = protocol(torch.zeros(40, 512, dtype=torch.long), bos=None, text="wiki_squad")
    assert (found.windows, found.tokens, found.predictions, found.stride) == (40, 20_480, 20_440, 512)


def test_ids_are_hashed_as_int32_little_endian():
    ids = [[1, 2, 70_000], [3, 4, 5]]
    expected = hashlib.sha256(np.array(ids, dtype="<i4").tobytes()).hexdigest()
    assert protocol(torch.tensor(ids), bos=1).ids_sha256 == expected


@pytest.mark.parametrize(
    ("predictions", "window", "count"),
    [(20_440, 512, 40), (20_439, 512, 39), (20_480, 512, 40), (1, 512, 1), (3, 2, 3)],
)
def test_predictions_are_rounded_down_to_whole_windows_but_at_least_one(predictions, window, count):
    assert window_count(predictions, window) == count


def test_a_window_that_predicts_nothing():
    with pytest.raises(DataError):
        window_count(100, 1)
