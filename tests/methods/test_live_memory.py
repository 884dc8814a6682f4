"""How much is alive at once: the weights once, their codes, and what one block needs (ADR 0015)."""

import weakref
from contextlib import suppress

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mobilequant.errors import UsageError
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.pipeline.workspace import Workspace

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 64,
    "num_hidden_layers": 24,
}
WINDOWS = torch.randint(0, 64, (3, 6), generator=torch.Generator().manual_seed(1))
BLOCK_BYTES = 4 * (4 * 64 * 64 + 3 * 64 * 128)
MODEL_BYTES = 24 * BLOCK_BYTES + 2 * 4 * 64 * 64
TRANSFORMS = ("rotate", "center", "ptf", "smoothquant")
RANGES = ("ranges", {"estimator": "minmax"})
TRAINED = ("mobilequant", {"batch": 1, "held_out": 1, "recompute": True})


class Meter(TorchDispatchMode):
    """Counts the bytes of every storage that lives while the meter is on, and the most that lived together."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._seen = weakref.WeakSet()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return found

    def _see(self, storage):
        if storage not in self._seen:
            self._seen.add(storage)
            self._count(storage.nbytes())
            weakref.finalize(storage, self._count, -storage.nbytes())

    def _count(self, change):
        self.live += change
        self.peak = max(self.peak, self.live)


def peak(*recipe, kept=None):
    """The most bytes alive while methods run on a model that nobody else holds, or that the list ``kept`` holds too."""
    methods = [make(*(each if isinstance(each, tuple) else (each, {}))) for each in recipe]
    with Meter() as meter:
        given = [tiny_model("llama", **SIZES)]
        if kept is not None:
            kept += given
        meter.peak = meter.live
        with suppress(UsageError):  # transforms alone leave a model that is not complete
            run_methods(given.pop(), Scheme(4), methods, WINDOWS, prefix=(1,))
    return meter.peak


@pytest.mark.parametrize("transform", ["rotate", "center", "ptf", "smoothquant"])
def test_a_transform_needs_the_model_once_and_a_block_twice(transform):
    assert MODEL_BYTES < peak(transform) < MODEL_BYTES + 4 * BLOCK_BYTES


def test_the_meter_sees_a_second_copy():
    assert peak("rotate", kept=[]) > 1.9 * MODEL_BYTES


# Blocks at the same time: the codes of what is rounded; float64 factors of a Hessian; with recompute the matrices and
# activations of one block, forward and backward, and states of the leaves.
@pytest.mark.parametrize(
    ("recipe", "blocks"),
    [
        ((*TRANSFORMS, RANGES, "rtn"), 2),
        ((*TRANSFORMS, RANGES, "gptq"), 9),
        ((*TRANSFORMS, RANGES, "rtn", TRAINED), 6),
    ],
    ids=["rtn", "gptq", "mobilequant"],
)
def test_rounding_and_training_add_codes_and_the_work_of_one_block(recipe, blocks):
    found = peak(*recipe)
    assert 1.2 * MODEL_BYTES < found < 1.25 * MODEL_BYTES + blocks * BLOCK_BYTES


def test_checkpoints_keep_what_transforms_take_and_not_what_they_make(tmp_path):
    methods = [make(name, {}) for name in TRANSFORMS]
    with suppress(UsageError):
        run_methods(tiny_model("llama", **SIZES), Scheme(4), methods, WINDOWS, checkpoint=Workspace(tmp_path))
    kept = {path.name: sum(file.stat().st_size for file in path.iterdir()) for path in (tmp_path / "units").iterdir()}
    assert len(kept) == len(TRANSFORMS)
    rotations = 8 * (64 * 64 + 24 * 4 * 16 * 16)
    assert rotations < kept["0-rotate"] < 1.1 * rotations
    assert sum(kept.values()) < rotations + 0.15 * MODEL_BYTES
