"""Rounding to nearest, as every integer operator of the project rounds: half up."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilequant.numerics.qtype import QType


def nearest_codes(weight: Tensor, scale: Tensor, qtype: QType) -> Tensor:
    """Codes int8 of weight (O, I) for a scale that broadcasts to it."""
    return torch.floor(weight / scale + 0.5).clamp_(qtype.qmin, qtype.qmax).to(torch.int8)
