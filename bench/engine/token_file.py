"""Files of token ids, int32 little endian, which programs in any language and environment read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.shapes import REAL, peers_dir
from mobilequant.data.cache import publish_file
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.evaluate.protocol import ids_sha256
from mobilequant.models.sources.resolver import resolve_folder
from mobilequant.models.tokenizer import Tokenizer

WINDOW = 512
SCORED, SCORED_WINDOWS = "wiki_squad", 40
CALIBRATION, CALIBRATION_WINDOWS = "mixed", 24  # what our own presets of 8 bits take


def scored_file() -> tuple[Path, str]:
    """The project's scoring windows of the real model, in order, and the sha256 of their ids."""
    ids = _windows(SCORED, SCORED_WINDOWS, seed=None)
    return _written("scored", ids), ids_sha256(ids)


def calibration_file() -> Path:
    """Windows of the text that our own presets calibrate on."""
    return _written("calibration", _windows(CALIBRATION, CALIBRATION_WINDOWS, seed=0))


def random_file(vocab: int) -> Path:
    """Two windows of random tokens, for a model of random weights."""
    ids = torch.randint(0, vocab, (2, WINDOW), generator=torch.Generator().manual_seed(0))
    return _written("random", ids)


def _windows(text: str, count: int, seed: int | None) -> Tensor:
    ids = Tokenizer.load(resolve_folder(REAL)).encode(load_text(text).content)
    return windows(ids, window=WINDOW, count=count, seed=seed)


def _written(name: str, ids: Tensor) -> Path:
    target = peers_dir() / "tokens" / f"{name}-{ids_sha256(ids)[:16]}.i32"
    if not target.is_file():
        with publish_file(target) as made:
            made.write_bytes(ids.to(torch.int32).numpy().astype("<i4").tobytes())
    return target
