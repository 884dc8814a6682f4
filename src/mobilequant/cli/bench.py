"""``mobilequant bench``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import Format, FormatOption, KernelsOption, LogFormat, PackageArgument, ThreadsOption


def bench(
    package: PackageArgument,
    prompt: Annotated[int, typer.Option("--prompt", min=1, help="Tokens that are read at once.")] = 512,
    decode: Annotated[int, typer.Option("--decode", min=1, help="Tokens that are read one by one.")] = 128,
    context: Annotated[
        int | None,
        typer.Option("--context", min=0, show_default="the prompt", help="Tokens that stand before those."),
    ] = None,
    threads: ThreadsOption = None,
    kernels: KernelsOption = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="How often; speeds are medians.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random tokens.")] = 0,
    output_format: FormatOption = Format.TABLE,
) -> None:
    """Measure the engine: tokens per second of prefill and of decoding, loading time, peak memory.

    Example: mobilequant bench smollm2-w8a8 --prompt 512 --decode 128 --threads 2

    One run that does not count comes first. Close other programs: they take the same cores.
    """
    from mobilequant.jobs.bench import bench as run

    log.configure(LogFormat.RICH)
    found = run(
        package,
        prompt=prompt,
        decode=decode,
        context=context,
        threads=threads,
        kernels=kernels,
        repeat=repeat,
        seed=seed,
    )
    if output_format is Format.JSON:
        output.write_json(found)
    else:
        output.write_facts("Speed", _facts(found))


def _facts(found: dict[str, Any]) -> dict[str, str]:
    from mobilequant.pipeline.quantity import size

    return {
        f"prefill, {found['prompt']} tokens": f"{found['prefill_tok_s']:.1f} tokens/s",
        f"decode, {found['decode']} tokens behind {found['context']}": f"{found['decode_tok_s']:.1f} tokens/s",
        "peak memory": size(found["peak_memory_bytes"]),
        "load": f"{found['load_ms']:.0f} ms",
        "kernels": found["kernels"],
        "threads": str(found["threads"]),
        "package": f"{found['package']}, {found['scheme']}, {size(found['package_bytes'])}",
        "bits per weight": f"{found['bits_per_weight']:.3f}",
    }
