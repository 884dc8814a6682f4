"""A package beside the float model that it was made from, ready to be given the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mobilequant.engine.engine import Engine
from mobilequant.evaluate.batch import tokens_at_once
from mobilequant.evaluate.score import Executor
from mobilequant.integer.interpreter import Interpreter
from mobilequant.jobs.executor import engine_executor, executors, integer_executor
from mobilequant.jobs.package import Package
from mobilequant.jobs.running import ENGINE, choose_executor
from mobilequant.jobs.simulation import load_simulation
from mobilequant.models.model import Model
from mobilequant.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Comparison:
    """Models by name ("float", "float_prefix", "fake_quant", "integer"), and how text becomes tokens for all."""

    executors: Mapping[str, Executor]
    encode: Callable[[str], Sequence[int]]  # without special tokens
    bos: int | None
    batch_tokens: int  # how many the executors are given at once


def compare(package: Package, source: Model, device: str, executor: str | None = None) -> Comparison:
    """The models of a package and ``source``, its float model, on a device.

    Args:
        executor: who computes the integer model, see ``jobs.running``.

    Raises:
        PackageError, CheckpointError: simulation or tokenizer of the package cannot be read.
        UsageError: the executor is unknown, or cannot run on the device.
    """
    source, bos = source.to(device=device), package.about.leading_token
    quantized = load_simulation(package.folder, package.graph, source)
    encode = Tokenizer.load(package.folder, num_rows=package.graph.vocab_size).encode
    models = executors(source, quantized, _integer(package, device, executor), bos)
    return Comparison(models, encode, bos, tokens_at_once(device, package.graph.vocab_size))


def _integer(package: Package, device: str, executor: str | None) -> Executor:
    chosen = choose_executor(executor, device=device)
    if chosen.name == ENGINE:
        engine = Engine.load(package.folder, kernels=chosen.kernels)
        return engine_executor(engine, package.about.leading_token)
    return integer_executor(Interpreter(package.graph, device), package.about.leading_token)
