"""The identity of a model: a hash over its tensors, so that a result can be tied to the exact weights it came from."""

from __future__ import annotations

import hashlib

import torch

from mobilequant.models.model import Model


def model_sha256(model: Model) -> str:
    """sha256 (hex) over the names, shapes, dtypes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(model.tensors):
        tensor = model.tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
