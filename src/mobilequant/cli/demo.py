"""``mobilequant demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import DeviceOption, LogFormat, LogFormatOption
from mobilequant.cli.plan import tell_plan
from mobilequant.cli.progress import tracking


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for packages, scores and report.")] = Path(
        "demo-out"
    ),
    model: Annotated[str, typer.Option("--model", help="The model to take; `mobilequant models` lists names.")] = (
        "smollm2-135m"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted demo.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo in the same folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print time, memory and disk, and stop.")] = False,
    device: DeviceOption = "cpu",
    log_format: LogFormatOption = LogFormat.RICH,
) -> None:
    """See everything once on a real model: quantize to 8 and 4 bits, score, write text, make a report.

    Example: mobilequant demo --out demo-out
    """
    log.configure(log_format)
    with tracking(log_format) as track:
        from mobilequant.jobs.demo import prepare_demo

        job = prepare_demo(out, model=model, resume=resume, force=force, device=device, track=track)
        tell_plan(job.plan, log_format)
        if dry_run:
            return
        findings = job.run(track)
    from mobilequant.jobs.report import score_lines

    output.write_scores(list(score_lines(findings.evaluations)))
    for sample in findings.samples:
        output.write_facts(sample.label, {"prompt": sample.prompt, "continuation": sample.text})
    places = {preset: str(out / preset) for preset in findings.evaluations}
    output.write_facts("Where everything is", {**places, "report": str(job.report)})
