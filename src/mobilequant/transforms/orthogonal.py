"""Orthogonal matrices: random ones, and those that are learned."""

from __future__ import annotations

import torch
from torch import Tensor

_SQUARINGS = 5


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


def rotation_of(skew: Tensor) -> Tensor:
    """The rotations e^S (…, n, n), float64, of skew matrices S (Sᵀ = −S); the identity for S = 0.

    Matrix products alone, a fixed number of them, so that a captured training step can hold it: Taylor's polynomial of
    degree eight at S/32, squared five times. It misses e^S, and so orthogonality, by less than 1e-6 for |S|₂ ≤ 16;
    ``torch.linalg.matrix_exp``, which looks at its argument first, is exact for all.
    """
    small = skew.double() / 2**_SQUARINGS
    square = small @ small
    cube, fourth = square @ small, square @ square
    identity = torch.eye(skew.shape[-1], dtype=torch.float64, device=skew.device)
    low = identity + small + square / 2 + cube / 6
    result = low + fourth @ (identity / 24 + small / 120 + square / 720 + cube / 5040 + fourth / 40320)
    for _ in range(_SQUARINGS):
        result = result @ result
    return result
