"""How fast a model writes its own training text, what it reads like, and whether it recites a text that is scored.

    python bench/self_generated.py [--model smollm2-135m] [--windows 16] [--window 128] [--device cpu] [--show 2]

Prints one JSON line with the speed and, for each scoring text, a passage of 50 characters or more that the two share
(null: none); then the first windows as text.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from mobilequant.data.text import load_text
from mobilequant.data.window import shared_passage
from mobilequant.jobs.calibration import tokenizer_of
from mobilequant.jobs.self_generated import self_generated
from mobilequant.models.sources import resolve
from mobilequant.pipeline.checkpoint import NoCheckpoint
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.recipe import SELF_GENERATED, CalibrationData

SCORED = ("wiki_squad", "brown", "lambada")


def main() -> None:
    """Write, time, and look for shared passages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--show", type=int, default=2)
    arguments = parser.parse_args()
    data = CalibrationData(text=SELF_GENERATED, window=arguments.window, count=arguments.windows, seed=arguments.seed)
    model = resolve(arguments.model)
    tokenizer, to_write = tokenizer_of(model), self_generated(model, data)
    model = model.to(device=arguments.device)
    started = time.perf_counter()
    written = to_write.sample(model, NoCheckpoint())
    elapsed_s = time.perf_counter() - started
    texts = [tokenizer.decode(window) for window in written.windows.tolist()]
    shared = {name: shared_passage("\n\n".join(texts), load_text(name).content, 50) for name in SCORED}
    facts = {"model": arguments.model, "windows": list(written.windows.shape), "device": arguments.device}
    speed = {"threads": torch.get_num_threads(), "tok_s": round(written.windows.numel() / elapsed_s, 1)}
    print(json.dumps({**facts, **speed, "shares": shared, **written.origin(), **environment().model_dump()}))
    print("\n----\n".join(texts[: arguments.show]))


if __name__ == "__main__":
    main()
