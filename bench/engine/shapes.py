"""The two models that all systems run: one for real, one for its shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.random_model import LLAMA_1B, Config, write_random_model
from mobilequant.data.cache import cache_dir
from mobilequant.models.sources.resolver import resolve_folder


@dataclass(frozen=True)
class Shape:
    """A model's numbers; ``random`` is how to make its weights, None for those of the built-in model of that name."""

    name: str
    linear_weights: int  # in the matrices of all blocks, each read once for a token
    head_weights: int
    random: Config | None = None

    @property
    def decode_weights(self) -> int:
        """How many weights are read to decode one token; an embedding that is no head is only looked up in."""
        return self.linear_weights + self.head_weights

    def folder(self) -> Path:
        """The Hugging Face folder from which every system starts, made if needed."""
        if self.random is None:
            return resolve_folder(self.name)
        return write_random_model(peers_dir() / "models" / self.name, self.random)


def peers_dir() -> Path:
    """Where everything of other systems is kept: their sources, environments and converted models."""
    return cache_dir() / "peers"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("smollm2-135m", linear_weights=106_168_320, head_weights=28_311_552),
        Shape("llama-1.1b", linear_weights=968_884_224, head_weights=65_536_000, random=LLAMA_1B),
    )
}
REAL = "smollm2-135m"  # the one whose perplexity means something
