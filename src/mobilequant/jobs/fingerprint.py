"""The identity of what a result came from: hashes of the exact weights and of the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

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


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """sha256 (hex) of settings as canonical JSON, whatever the order of their keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
