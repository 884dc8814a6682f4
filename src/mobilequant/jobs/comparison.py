"""A package beside the float model that it was made from, ready to be given the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mobilequant.evaluate.score import Executor
from mobilequant.integer.interpreter import Interpreter
from mobilequant.jobs.executor import executors
from mobilequant.jobs.package import Package
from mobilequant.jobs.simulation import load_simulation
from mobilequant.models.model import Model
from mobilequant.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Comparison:
    """Models by name ("float", "float_prefix", "fake_quant", "integer"), and how text becomes tokens for all."""

    executors: Mapping[str, Executor]
    encode: Callable[[str], Sequence[int]]  # without special tokens
    bos: int | None


def compare(package: Package, source: Model, device: str) -> Comparison:
    """The models of a package and ``source``, its float model, on a device.

    Raises:
        PackageError, CheckpointError: simulation or tokenizer of the package cannot be read.
    """
    source, bos = source.to(device=device), package.about.leading_token
    quantized = load_simulation(package.folder, package.graph, source)
    encode = Tokenizer.load(package.folder, num_rows=package.graph.vocab_size).encode
    return Comparison(executors(source, quantized, Interpreter(package.graph, device), bos), encode, bos)
