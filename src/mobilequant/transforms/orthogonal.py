"""Random orthogonal matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def random_orthogonal(width: int, generator: torch.Generator) -> Tensor:
    """A (width, width) float64 matrix Q with Q·Qᵀ = I, uniform over all of them.

    The Q of a Gaussian matrix is uniform once the diagonal of its R is positive (Mezzadri, math-ph/0609050, §5).
    """
    gaussian = torch.randn(width, width, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * torch.where(r.diagonal() < 0, -1.0, 1.0)).contiguous()


def random_signs(width: int, generator: torch.Generator) -> Tensor:
    """(width,) numbers that are 1 or −1, float64."""
    return 2.0 * torch.randint(2, (width,), generator=generator).double() - 1.0
