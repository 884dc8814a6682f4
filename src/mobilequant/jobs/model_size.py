"""How many weights a model has, from its architecture alone."""

from __future__ import annotations

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.models.canonical import block_shapes


def matrix_sizes(arch: Architecture) -> dict[str, tuple[int, int]]:
    """(O, I) of every weight matrix of one block, by role."""
    shapes = block_shapes(arch)
    return {role: (shapes[role][0], shapes[role][1]) for role in point.linear_roles(arch)}


def block_parameters(arch: Architecture) -> int:
    """Weights of all blocks together."""
    return arch.num_layers * sum(rows * columns for rows, columns in matrix_sizes(arch).values())


def table_parameters(arch: Architecture) -> int:
    """Weights of embedding and lm_head; a tied head is stored once."""
    return arch.vocab_size * arch.hidden_size * (1 if arch.tied_head else 2)
