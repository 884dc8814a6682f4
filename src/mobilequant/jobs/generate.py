"""Text from a package, by the engine or by the reference interpreter: the same for one seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mobilequant.engine.generation import generate as generate_text
from mobilequant.engine.generation import require_limit
from mobilequant.engine.sampler import DEFAULT_TEMPERATURE, Sampling
from mobilequant.jobs.running import choose_executor


def generate(
    package: str | Path,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    greedy: bool = False,
    temperature: float = DEFAULT_TEMPERATURE,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    executor: str | None = None,
    threads: int | None = None,
    kernels: str | None = None,
    device: str = "cpu",
) -> Iterator[str]:
    """Yield the continuation of ``prompt`` piece by piece; ends at the end-of-text token or when the context is full.

    Args:
        greedy: always the most likely token; how tokens are chosen otherwise: ``engine.sampler.Sampling``.
        executor: "engine" or "reference"; by default the engine, and the reference on another device than the CPU.
        threads, kernels: of the engine, see ``Engine.load``.

    Raises:
        PackageError: the package is missing or damaged.
        UsageError: the prompt is empty, no Unicode, or longer than the context, or an option is out of range.
    """
    require_limit(max_new_tokens)
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, greedy, seed)
    model = choose_executor(executor, kernels=kernels, device=device).load(package, threads=threads)
    return generate_text(model, prompt, sampling, max_new_tokens)
