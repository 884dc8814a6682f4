import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mobilequant.errors import CheckpointError
from mobilequant.evaluate.score import compare, score

VOCAB = 11


def table_executor(seed: int, scale: float = 1.0):
    """A bigram model: the logits depend on the current token only."""
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed)) * scale
    return lambda tokens: table[tokens]


def windows(count: int = 4, length: int = 9) -> Tensor:
    return torch.randint(0, VOCAB, (count, length), generator=torch.Generator().manual_seed(7))


def test_identical_executors_agree_completely():
    model = table_executor(1)
    result = score({"float": model, "twin": lambda tokens: model(tokens).clone()}, windows(), bos=None)
    assert result["twin"]["kl"] == 0.0
    assert result["twin"]["top1"] == 1.0
    assert result["twin"]["ppl"] == result["float"]["ppl"]
    assert (result["twin"]["ppl_ratio"], result["twin"]["ppl_ratio_se"]) == (1.0, 0.0)


def test_uniform_logits_give_the_vocabulary_as_perplexity():
    result = score({"float": lambda tokens: torch.zeros(*tokens.shape, VOCAB)}, windows(), bos=None)
    assert result["float"]["ppl"] == pytest.approx(VOCAB, rel=1e-6)
    assert result["float"]["nll_se"] == pytest.approx(0.0, abs=1e-7)


def test_known_probabilities():
    # The next token is the same as this one with probability 3/4, the other one with 1/4.
    logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
    result = score({"float": lambda tokens: logits[tokens]}, torch.tensor([[0, 0, 1]]), bos=None)["float"]
    assert result["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, rel=1e-6)
    assert result["predictions"] == 2


def test_kl_is_that_of_torch():
    p, q = table_executor(1), table_executor(2)
    data = windows()
    result = score({"float": p, "other": q}, data, bos=None)
    tokens = data[:, :-1].flatten()
    log_p, log_q = p(tokens).double().log_softmax(-1), q(tokens).double().log_softmax(-1)
    expected = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert result["other"]["kl"] == pytest.approx(float(expected), rel=1e-5)
    assert result["other"]["top1"] == pytest.approx(float((log_p.argmax(-1) == log_q.argmax(-1)).double().mean()))
    assert result["other"]["nll"] == pytest.approx(float(F.nll_loss(log_q, data[:, 1:].flatten())), rel=1e-6)


@pytest.mark.parametrize(("bos", "first_input", "length"), [(None, 3, 3), (9, 9, 4)])
def test_bos_is_prepended_and_the_same_tokens_are_predicted(bos, first_input, length):
    seen: list[Tensor] = []

    def executor(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return table_executor(1)(tokens)

    result = score({"float": executor}, torch.tensor([[3, 4, 5, 6]]), bos=bos)["float"]
    assert seen[0][0, 0] == first_input
    assert seen[0].shape == (1, length)
    expected = F.cross_entropy(table_executor(1)(torch.tensor([3, 4, 5])), torch.tensor([4, 5, 6]))
    assert result["nll"] == pytest.approx(float(expected), rel=1e-6)


def test_an_executor_whose_prefix_holds_bos_may_drop_it():
    model = table_executor(1)
    result = score({"float": model, "prefixed": lambda tokens: model(tokens[:, 1:])}, windows(), bos=0)
    assert result["prefixed"]["kl"] == 0.0


def test_chunks_do_not_change_a_bit():
    p, q = (torch.randn(23, 64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    targets = torch.arange(23)
    whole = compare("q", p, q, targets)
    for rows in (1, 4, 22):
        parts = compare("q", p, q, targets, chunk_elements=64 * rows)
        assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_standard_error_is_that_of_the_window_means():
    data, model = windows(6), table_executor(3)
    result = score({"float": model}, data, bos=None)["float"]
    means = torch.stack([F.cross_entropy(model(w[:-1]), w[1:]) for w in data]).double()
    assert result["nll_se"] == pytest.approx(float(means.std()) / math.sqrt(6), rel=1e-5)
    assert result["ppl_se"] == pytest.approx(result["ppl"] * result["nll_se"])


def test_a_paired_error_is_smaller_than_two_separate_ones():
    model = table_executor(3)
    noise = table_executor(4, 0.01)
    result = score({"float": model, "near": lambda t: model(t) + noise(t)}, windows(6), bos=None)["near"]
    assert result["ppl_ratio_se"] < 0.1 * result["nll_se"]


def test_one_window_has_no_standard_error():
    assert "ppl_se" not in score({"float": table_executor(1)}, windows(1), bos=None)["float"]


def test_hopeless_models_stay_within_json():
    def certain_and_wrong(tokens: Tensor) -> Tensor:
        return F.one_hot(torch.zeros_like(tokens), VOCAB) * 1e4

    assert math.isfinite(score({"float": certain_and_wrong}, torch.tensor([[1, 2]]), bos=None)["float"]["ppl"])


def test_nan_names_the_executor():
    with pytest.raises(CheckpointError, match="integer"):
        score(
            {"float": table_executor(1), "integer": lambda t: torch.full((*t.shape, VOCAB), math.nan)},
            windows(),
            bos=None,
        )


def test_misuse():
    with pytest.raises(ValueError, match="float"):
        score({"integer": table_executor(1)}, windows(), bos=None)
    with pytest.raises(ValueError, match="T ≥ 2"):
        score({"float": table_executor(1)}, windows(2, 1), bos=None)
    with pytest.raises(ValueError, match="odd gave logits"):
        score({"float": table_executor(1), "odd": lambda t: torch.zeros(*t.shape, VOCAB + 1)}, windows(), bos=None)
