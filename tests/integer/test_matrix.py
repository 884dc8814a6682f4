import torch

from mobilequant.integer.ops import matrix
from mobilequant.integer.ops.matrix import FLOAT32_EXACT, exact_dtype


def test_the_narrowest_exact_type():
    assert exact_dtype(FLOAT32_EXACT) == torch.float32
    assert exact_dtype(FLOAT32_EXACT + 1) == torch.float64


def test_precision_that_torch_does_not_tell_is_not_relied_on(monkeypatch):
    def mixed():
        raise RuntimeError("you have used mixed of the legacy and new APIs")

    monkeypatch.setattr(matrix.torch, "get_float32_matmul_precision", mixed)
    assert exact_dtype(1) == torch.float64
