"""Orthogonal matrices whose entries are all as small as they can be, for any width.

A Hadamard matrix H of order n has entries ±1 and H·Hᵀ = n·I: divided by √n it spreads a large channel evenly over all.
Orders that are known here, and multiply by Kronecker products (576 = 12·12·4, 640 = 20·32, 896 = 28·32):

    2         Sylvester
    q + 1     Paley I,  q ≡ 3 (mod 4)     12, 20, 24, 44, 48, 60, …
    2(q + 1)  Paley II, q ≡ 1 (mod 4)     12, 28, 36, 52, 60, 76, …

with q a prime or the square of one. What is left of a width (always its odd part, if it has one) is filled by a random
orthogonal matrix.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

import torch
from torch import Tensor

from mobilequant.transforms.orthogonal import random_orthogonal, random_signs


def random_hadamard(width: int, generator: torch.Generator) -> Tensor:
    """A (width, width) float64 matrix Q with Q·Qᵀ = I; all entries ±1/√width where Hadamard matrices reach.

    Signs are random on both sides: of rows, so that what is alike in all channels does not gather in one of them; of
    columns, so that a large channel does not come back with one sign in all of them.
    """
    orders, left = _factors(width)
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for order in orders:
        matrix = torch.kron(matrix, hadamard(order) / order**0.5)
    if left > 1:
        matrix = torch.kron(matrix, random_orthogonal(left, generator))
    return random_signs(width, generator)[:, None] * matrix * random_signs(width, generator)


def hadamard(order: int) -> Tensor:
    """The Sylvester or Paley matrix (order, order) of ±1, float64. Raises ValueError for an order that has none."""
    if order == 2:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    if _is_paley_field(order - 1, 3):
        return _paley_one(order - 1)
    if order % 2 == 0 and _is_paley_field(order // 2 - 1, 1):
        return _paley_two(order // 2 - 1)
    raise ValueError(f"there is no Sylvester or Paley matrix of order {order}")


def _factors(width: int) -> tuple[tuple[int, ...], int]:
    """Orders of Hadamard matrices, and the smallest width that these leave to something else."""
    for left in range(1, width + 1):
        orders = _orders(width // left) if width % left == 0 else None
        if orders is not None:
            return orders, left
    raise ValueError(f"{width} is not a width")


@cache
def _orders(width: int) -> tuple[int, ...] | None:
    """Known orders whose product is ``width``, or None."""
    if width & (width - 1) == 0:
        return (2,) * (width.bit_length() - 1)
    for order in range(12, width + 1, 4):
        if width % order == 0 and (_is_paley_field(order - 1, 3) or _is_paley_field(order // 2 - 1, 1)):
            rest = _orders(width // order)
            if rest is not None:
                return (order, *rest)
    return None


def _is_paley_field(size: int, remainder: int) -> bool:
    """Whether there is a field of ``size`` elements of a kind that is built here, and size ≡ remainder (mod 4)."""
    return size % 4 == remainder and (_is_odd_prime(size) or _is_square_of_prime(size))


def _is_square_of_prime(number: int) -> bool:
    return isqrt(number) ** 2 == number and _is_odd_prime(isqrt(number))


def _is_odd_prime(number: int) -> bool:
    return number > 2 and number % 2 == 1 and all(number % divisor for divisor in range(3, isqrt(number) + 1, 2))


def _paley_one(size: int) -> Tensor:
    """Order size + 1: I + S with the skew S = [[0, 1], [−1, Q]]."""
    matrix = torch.ones(size + 1, size + 1, dtype=torch.float64)
    matrix[1:, 0] = -1
    matrix[1:, 1:] = _jacobsthal(size) + torch.eye(size)
    return matrix


def _paley_two(size: int) -> Tensor:
    """Order 2(size + 1): in the symmetric C = [[0, 1], [1, Q]], 0 becomes [[1, −1], [−1, −1]] and ±1 a Sylvester."""
    core = torch.ones(size + 1, size + 1, dtype=torch.float64)
    core[0, 0] = 0
    core[1:, 1:] = _jacobsthal(size)
    zeros = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    return torch.kron(core, hadamard(2)) + torch.kron(torch.eye(size + 1, dtype=torch.float64), zeros)


def _jacobsthal(size: int) -> Tensor:
    """Q[x, y] = χ(x − y) over the elements of the field of ``size`` elements: 1 for squares, −1 for others, 0 for 0."""
    prime = isqrt(size) if _is_square_of_prime(size) else size
    index = torch.arange(size)
    high, low = index // prime, index % prime  # the element low + high·√n; high is 0 in a prime field
    high, low = (part[:, None] - part[None, :] for part in (high, low))
    symbol = torch.full((prime,), -1.0, dtype=torch.float64)
    symbol[torch.arange(1, prime) ** 2 % prime] = 1
    symbol[0] = 0
    if prime == size:
        return symbol[low % prime]
    # In the field of p² elements x is a square just where its norm low² − n·high² is one modulo p.
    no_square = int((symbol < 0).nonzero()[0])
    return symbol[(low**2 - no_square * high**2) % prime]
