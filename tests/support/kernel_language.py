"""The GPU kernels, on a GPU where there is one, else in the interpreter of their language; skipped without either."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the language is imported; nothing else here imports it


def kernels(name):
    """A module of ``mobilequant.solvers``."""
    pytest.importorskip("triton", reason="the language of the GPU kernels is not installed")
    return importlib.import_module(f"mobilequant.solvers.{name}")


def there(given):
    """Tensors, or None, on the device of the kernels."""
    return [None if each is None else each.to(DEVICE) for each in given]
