"""``mobilequant generate``."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import typer

from mobilequant.cli import output
from mobilequant.cli.option import LARGEST_SEED, DeviceOption, PackageArgument


def generate(
    package: PackageArgument,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", show_default=False, help="Text to continue.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Stop after this many tokens.")] = 64,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the most likely token: repeatable.")] = False,
    temperature: Annotated[float, typer.Option("--temperature", help="Higher is more surprising.")] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Another seed, another text.")] = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Continue a text with the integer model, token by token as they come.

    Example: mobilequant generate smollm2-w8a8 --prompt "The capital of France is" --max-new-tokens 32 --greedy
    """
    from mobilequant.jobs.generate import generate as run

    pieces = run(
        package,
        prompt,
        max_new_tokens=max_new_tokens,
        greedy=greedy,
        temperature=temperature,
        seed=seed,
        device=device,
    )
    for piece in chain([prompt], pieces, ["\n"]):
        output.write_text(piece)
