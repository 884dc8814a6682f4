"""Runs in OpenVINO's environment: time one prompt and one decode.

openvino_time.py FOLDER CONTEXT DECODE THREADS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai


def main(folder: str, context: int, decode: int, threads: int) -> None:
    begun = time.perf_counter()
    pipeline = genai.LLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=threads, ATTENTION_BACKEND="SDPA")
    load_ms = 1000 * (time.perf_counter() - begun)
    vocab = json.loads((Path(folder) / "config.json").read_text())["vocab_size"]
    # other tokens each time: a pipeline may keep what it has read
    tokens = np.random.default_rng(time.time_ns()).integers(0, vocab, (2, context), dtype=np.int64)
    _once(pipeline, tokens[:1, :512], 8)  # warms up
    prefill, decoded = _once(pipeline, tokens[1:], decode)
    print(json.dumps({"prefill_tok_s": prefill, "decode_tok_s": decoded, "load_ms": load_ms}))


def _once(pipeline: genai.LLMPipeline, tokens: np.ndarray, decode: int) -> tuple[float, float]:
    """Tokens per second read, and made behind them."""
    config = genai.GenerationConfig(max_new_tokens=decode + 1, ignore_eos=True, do_sample=False)
    inputs = genai.TokenizedInputs(ov.Tensor(tokens), ov.Tensor(np.ones_like(tokens)))
    metrics = pipeline.generate(inputs, config).perf_metrics
    if (made := metrics.get_num_generated_tokens()) != decode + 1:
        raise RuntimeError(f"{made} tokens were made instead of {decode + 1}")
    return 1000 * tokens.shape[1] / metrics.get_ttft().mean, 1000 / metrics.get_tpot().mean


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
