"""Weights in a form that runs code when it is read: recognized, refused, never opened."""

from __future__ import annotations

from pathlib import Path

from mobilequant.errors import CheckpointError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def pickle_refused(file: Path) -> CheckpointError:
    """The error for a checkpoint that is only there as a pickle."""
    return CheckpointError(
        f"{file} is a pickle, and reading a pickle runs whatever code it contains.",
        "Use the model's .safetensors files; where there are none, load it in transformers on a machine that you can "
        "afford to lose and call save_pretrained(…), which writes safetensors.",
    )
