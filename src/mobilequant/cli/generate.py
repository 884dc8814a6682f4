"""``mobilequant generate``."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import (
    DeviceOption,
    ExecutorOption,
    GreedyOption,
    KernelsOption,
    LogFormat,
    MaxNewTokensOption,
    PackageArgument,
    PenaltyOption,
    SamplingSeedOption,
    TemperatureOption,
    ThreadsOption,
    TopKOption,
    TopPOption,
)


def generate(
    package: PackageArgument,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", show_default=False, help="Text to continue.")],
    max_new_tokens: MaxNewTokensOption = 64,
    greedy: GreedyOption = False,
    temperature: TemperatureOption = 0.8,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SamplingSeedOption = 0,
    executor: ExecutorOption = None,
    threads: ThreadsOption = None,
    kernels: KernelsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Continue a text with the integer model, token by token as they come.

    Example: mobilequant generate smollm2-w8a8 --prompt "The capital of France is" --max-new-tokens 32 --greedy

    One seed gives one text, on every machine, with every executor and number of threads.
    """
    from mobilequant.jobs.generate import generate as run

    log.configure(LogFormat.RICH)
    pieces = run(
        package,
        prompt,
        max_new_tokens=max_new_tokens,
        greedy=greedy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        executor=executor,
        threads=threads,
        kernels=kernels,
        device=device,
    )
    for piece in chain([prompt], pieces, ["\n"]):
        output.write_text(piece)
