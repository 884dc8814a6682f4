"""Does the interpreter give the same integers on CPU and CUDA, at every tensor of every window?

    python bench/cuda_equality.py PACKAGE TEXT [--windows 8] [--length 256] [--device cuda]

PACKAGE is a folder made by `mobilequant quantize`; TEXT a .txt file or a built-in text. Prints "equal", or the first
tensor, token and channel that differs, and then ends with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.integer.graph import TensorSpec
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import load_graph, verify_files
from mobilequant.models.tokenizer import Tokenizer


def main() -> int:
    options = parse()
    verify_files(options.package)
    graph = load_graph(options.package)
    ids = Tokenizer.load(options.package).encode(load_text(options.text).content)
    length = min(options.length, graph.context - graph.num_prefix)
    chosen = windows(ids, window=length, count=options.windows, seed=None)
    reference, other = Interpreter(graph), Interpreter(graph, options.device)
    compared = 0
    for number, tokens in enumerate(chosen):
        difference, count = first_difference(reference, other, tokens)
        compared += count
        if difference:
            print(f"window {number}: {difference}")
            return 1
    print(f"equal: {compared:,} codes of {len(graph.ops)} tensors in {len(chosen)} windows of {length} tokens, "
          f"cpu and {options.device} ({name_of(options.device)}), torch {torch.__version__}")  # fmt: skip
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("package", type=Path)
    parser.add_argument("text")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def first_difference(reference: Interpreter, other: Interpreter, tokens: Tensor) -> tuple[str | None, int]:
    """The first difference in running order, or None; and how many codes were compared."""
    expected: dict[str, Tensor] = {}
    reference.run(tokens, reference.state(), lambda spec, codes: expected.update({spec.name: codes}))
    found: list[str] = []
    count = 0

    def compare(spec: TensorSpec, codes: Tensor) -> None:
        nonlocal count
        here, there = codes.cpu(), expected.pop(spec.name)
        count += here.numel()
        if not found and not torch.equal(here, there):
            where = (here != there).nonzero()[0].tolist()
            found.append(f"{spec.name}{where} is {int(there[tuple(where)])} and {int(here[tuple(where)])}")

    other.run(tokens, other.state(), compare)
    return (found[0] if found else None), count


def name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


if __name__ == "__main__":
    sys.exit(main())
