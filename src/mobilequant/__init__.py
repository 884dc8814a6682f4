"""MobileQuant: language models on phones, in integers only.

from mobilequant import quantize, score
package = quantize("smollm2-135m", preset="w8a8-fast", out="smollm2-w8a8")
print(score(package)["integer"]["ppl"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilequant.engine.engine import Engine
    from mobilequant.jobs.evaluate import evaluate as score
    from mobilequant.jobs.generate import generate
    from mobilequant.jobs.inspect import inspect
    from mobilequant.jobs.quantize import quantize

__version__ = "0.1.0"
__all__ = ["Engine", "__version__", "generate", "inspect", "quantize", "score"]

# Public name → where it is. `evaluate` is already the name of a room, hence `score`.
_PLACES = {
    "Engine": ("mobilequant.engine.engine", "Engine"),
    "generate": ("mobilequant.jobs.generate", "generate"),
    "inspect": ("mobilequant.jobs.inspect", "inspect"),
    "quantize": ("mobilequant.jobs.quantize", "quantize"),
    "score": ("mobilequant.jobs.evaluate", "evaluate"),
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: importing the package alone stays fast and never imports torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """The public names, also those that are not loaded yet."""
    return __all__
