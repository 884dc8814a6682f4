"""What it takes to let the float model write its training text: windows at a time, time, memory, disk.

memory   keys and values of all windows that are written together, a few copies of their last logits
time     on a CPU the matrix products, slowed by reading all weights for one token of each window;
         on a GPU the host, which launches some 75 kernels for a block: it costs the same for any number of windows
"""

from __future__ import annotations

from mobilequant.arch.architecture import Architecture
from mobilequant.jobs.model_size import block_parameters
from mobilequant.jobs.training_plan import TrainingCost
from mobilequant.pipeline.recipe import CalibrationData

# Constants of the kind of device, not what is free there: the number of windows decides how logits are rounded.
_TOGETHER_BYTES = {"cpu": 1_000_000_000, "cuda": 6_000_000_000}
_MOST_TOGETHER = {"cpu": 64, "cuda": 512}
_FLOAT_BYTES, _TOKEN_BYTES = 4, 4
_LOGITS_BYTES = 24  # logits, capped ones, softmax, its cumulative sum in float64
_READING = 2.5  # as often the time of the products alone (measured: SmolLM2, 16 to 64 windows, one core)
# What a GPU could compute in matrix products while the host launches a block: assumed, not measured.
_LAUNCHING = 7.5e9


def windows_at_once(arch: Architecture, window: int, device: str) -> int:
    """How many windows are written together on a kind of device: "cuda", or any other."""
    kind = "cuda" if device == "cuda" else "cpu"
    return max(1, min(_MOST_TOGETHER[kind], _TOGETHER_BYTES[kind] // _bytes_each(arch, window)))


def writing_cost(arch: Architecture, data: CalibrationData, device: str) -> TrainingCost:
    """Operations in all, bytes beyond the model, bytes in the work folder."""
    together = min(data.count, windows_at_once(arch, data.window, device))
    products = 2.0 * (block_parameters(arch) + arch.vocab_size * arch.hidden_size) * data.count * data.window
    steps = -(-data.count // together) * data.window
    launched = _LAUNCHING * arch.num_layers * steps if device == "cuda" else 0.0
    return TrainingCost(
        operations=products * (_READING if device == "cpu" else 1.0) + launched,
        memory_bytes=together * _bytes_each(arch, data.window),
        work_bytes=data.count * data.window * _TOKEN_BYTES,
    )


def _bytes_each(arch: Architecture, window: int) -> int:
    cache = 2 * arch.num_layers * arch.num_kv_heads * arch.head_dim * window * _FLOAT_BYTES
    return cache + arch.vocab_size * _LOGITS_BYTES
