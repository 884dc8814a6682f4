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


def test_window_count_drops_the_remainder():
    assert window_count(20_480, 512) == 40
    assert window_count(20_479, 512) == 39


@pytest.mark.parametrize(("tokens", "window"), [(511, 512), (100, 1)])
def test_too_little_to_score(tokens, window):
    with pytest.raises(DataError):
        window_count(tokens, window)
