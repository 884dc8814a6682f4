"""MobileQuant: language models on phones, in integers only.

    from mobilequant import quantize
    quantize("smollm2-135m", preset="w8a8-fast", out="smollm2-w8a8")

``evaluate`` is also the name of a room, so that job is ``mobilequant.jobs.evaluate.evaluate``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilequant.jobs.generate import generate
    from mobilequant.jobs.inspect import inspect
    from mobilequant.jobs.quantize import quantize

__version__ = "0.1.0"
__all__ = ["__version__", "generate", "inspect", "quantize"]


def __getattr__(name: str) -> Any:
    """Load a job when it is first asked for: importing the package alone stays fast and never imports torch."""
    if name in __all__:
        return getattr(import_module(f"mobilequant.jobs.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
