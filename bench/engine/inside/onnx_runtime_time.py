"""Runs in ONNX Runtime's environment: time one prompt and one decode.

onnx_runtime_time.py FOLDER CONTEXT DECODE THREADS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

CHUNK = 512  # tokens read at once: a longer context in pieces, or its attention scores take gigabytes


def main(folder: str, context: int, decode: int, threads: int) -> None:
    begun = time.perf_counter()
    config = og.Config(folder)
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)
    load_ms = 1000 * (time.perf_counter() - begun)
    vocab = json.loads((Path(folder) / "genai_config.json").read_text())["model"]["vocab_size"]
    tokens = np.random.default_rng(time.time_ns()).integers(0, vocab, (2, context), dtype=np.int32)
    _once(model, tokens[0, :CHUNK], 8)  # warms up
    prefill, decoded = _once(model, tokens[1], decode)
    print(json.dumps({"prefill_tok_s": prefill, "decode_tok_s": decoded, "load_ms": load_ms}))


def _once(model: og.Model, tokens: np.ndarray, decode: int) -> tuple[float, float]:
    """Tokens per second read, and made behind them."""
    length = len(tokens) + decode + 1
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=length, min_length=length, do_sample=False)  # no end before the end
    generator = og.Generator(model, params)
    begun = time.perf_counter()
    for start in range(0, len(tokens), CHUNK):
        generator.append_tokens(tokens[None, start : start + CHUNK])
    generator.generate_next_token()  # picks from the logits of the prompt
    read = time.perf_counter()
    for _ in range(decode):
        generator.generate_next_token()
    made = time.perf_counter()
    return len(tokens) / (read - begun), decode / (made - read)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
