"""Token by token out of the cache against the whole sequence at once."""

import pytest
import torch

from mobilequant.arch import registry
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.kv_cache import KVCache
from mobilequant.models.tiny import tiny_model

TOKENS = torch.randint(0, 96, (3, 17), generator=torch.Generator().manual_seed(5))  # longer than any sliding window


def logits_from_cache(model, prefix, tokens, pieces=1):
    cache = KVCache(model, *tokens.shape, prefix)
    return torch.cat([cache.logits(model, piece) for piece in tokens.split(pieces, dim=1)], dim=1)


@pytest.mark.parametrize("family", registry.model_types())
@pytest.mark.parametrize("prefix", [(), (1, 7)], ids=["alone", "behind a prefix"])
def test_the_cache_gives_the_logits_of_the_whole_sequence(family, prefix):
    model = tiny_model(family).to(dtype=torch.float64)
    constant = compute_prefix(model, prefix) if prefix else None
    expected = forward(model, TOKENS, prefix=constant)
    for pieces in (1, [9, 1, 7]):
        torch.testing.assert_close(logits_from_cache(model, constant, TOKENS, pieces), expected, rtol=0, atol=1e-10)


def test_of_a_cache_only_the_prefix_outlives_a_sliding_window():
    model = tiny_model("mistral")
    first_token_changed = TOKENS.clone()
    first_token_changed[:, 0] = (TOKENS[:, 0] + 1) % 96
    far = 2 * 6  # two blocks, windows of 6 tokens: from here on there is no way back to the first token

    def behind(prefix, tokens):
        return logits_from_cache(model, compute_prefix(model, prefix), tokens)[:, far:]

    torch.testing.assert_close(behind((1,), TOKENS), behind((1,), first_token_changed))
    assert not torch.allclose(behind((1,), TOKENS), behind((2,), TOKENS), atol=1e-3)
