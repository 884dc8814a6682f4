"""GPTQ: round column by column and let the columns still to come make up for each error (arXiv 2210.17323).

Least squares on the layer's output: minimize tr(ΔW·H·ΔWᵀ), H the average of x·xᵀ over calibration tokens. Column j's
rounding error e is answered by moving every later column k by −e·U[j, k] / U[j, j], where H⁻¹ = Uᵀ·U with U upper
triangular (the paper's Algorithm 1).

        ┌ done ┐┌ block ┐┌── later ──┐
    W = [ codes ][  · · · ][  · · · · ·  ]     inside a block each column is corrected at once; the columns behind
                                           it once per block, by one matrix product

A column whose input was always zero has no off-diagonal H: nothing flows in or out, and it is rounded to nearest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.errors import DataError
from mobilequant.numerics.qtype import QType
from mobilequant.solvers.rounding import nearest_codes

_MAX_DAMPING = 1e4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GptqSettings:
    """Damping is a share of the mean diagonal of H; the order of columns is the error they can make, largest first."""

    damping: float = 0.01
    block_size: int = 128
    descending_activation: bool = True


def gptq_codes(
    name: str, weight: Tensor, hessian: Tensor, scale: Tensor, qtype: QType, settings: GptqSettings
) -> Tensor:
    """Codes int8 (O, I) of a weight for a Hessian (I, I) and fixed scales (O, 1) or (O, I).

    No row ends worse than rounding to nearest: the rare row where the greedy order loses keeps its nearest codes.

    Raises:
        DataError: the Hessian holds NaN or infinity.
    """
    if not bool(torch.isfinite(hessian).all()):
        raise DataError(
            f"the calibration inputs of {name} overflow: their second moments are not finite",
            "Check the model for NaN weights, or calibrate on other text.",
        )
    weight, scale = weight.float(), scale.float().expand_as(weight)
    hessian = hessian.double()
    order = _column_order(hessian, settings)
    factor = _inverse_factor(name, hessian[order][:, order], settings.damping)
    shuffled = _solve(weight[:, order], scale[:, order], factor, qtype, settings.block_size)
    codes = torch.empty_like(shuffled)
    codes[:, order] = shuffled
    nearest = nearest_codes(weight, scale, qtype)
    worse = output_error(weight, codes * scale, hessian) > output_error(weight, nearest * scale, hessian)
    return torch.where(worse[:, None], nearest, codes)


def output_error(weight: Tensor, rounded: Tensor, hessian: Tensor) -> Tensor:
    """The objective per row, (O,): δ·H·δᵀ with δ = weight − rounded, the mean squared error of each output."""
    delta = (weight - rounded).double()
    return ((delta @ hessian.double()) * delta).sum(dim=1)


def _column_order(hessian: Tensor, settings: GptqSettings) -> Tensor:
    if settings.descending_activation:
        return torch.argsort(hessian.diagonal(), descending=True, stable=True)
    return torch.arange(hessian.shape[0], device=hessian.device)


def _inverse_factor(name: str, hessian: Tensor, damping: float) -> Tensor:
    """Upper triangular U with Uᵀ·U = H⁻¹: flipping both axes turns a lower Cholesky factor of H into R with R·Rᵀ = H
    and R upper, so that U = R⁻¹ and H is never inverted. Damping grows tenfold until H is positive definite."""
    mean = hessian.diagonal().mean().item() or 1.0
    identity = torch.eye(hessian.shape[0], dtype=hessian.dtype, device=hessian.device)
    while True:
        damped = hessian + identity * (damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not failed or damping > _MAX_DAMPING:
            break
        _log.warning("%s: the Hessian is singular at damping %g; trying %g", name, damping, 10 * damping)
        damping *= 10
    return torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True).float()


def _solve(weight: Tensor, scale: Tensor, factor: Tensor, qtype: QType, block_size: int) -> Tensor:
    """Codes of the columns in the order given."""
    weight, codes = weight.clone(), torch.empty_like(weight, dtype=torch.int8)
    columns = weight.shape[1]
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        block = slice(start, stop)
        codes[:, block], errors = _solve_block(weight[:, block], scale[:, block], factor[block, block], qtype)
        weight[:, stop:] -= errors @ factor[block, stop:]
    return codes


def _solve_block(weight: Tensor, scale: Tensor, factor: Tensor, qtype: QType) -> tuple[Tensor, Tensor]:
    """Codes and errors, relative to the diagonal of the factor, of the columns of one block.

    Works on transposed copies, in which a column is contiguous.
    """
    columns, steps = weight.T.contiguous(), scale.T.contiguous()
    codes, errors = torch.empty_like(columns, dtype=torch.int8), torch.empty_like(columns)
    for j in range(len(columns)):
        codes[j] = nearest_codes(columns[j], steps[j], qtype)
        errors[j] = (columns[j] - codes[j] * steps[j]) / factor[j, j]
        columns[j + 1 :].addr_(factor[j, j + 1 :], errors[j], alpha=-1.0)
    return codes.T, errors.T
