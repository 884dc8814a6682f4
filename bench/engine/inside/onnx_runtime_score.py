"""Runs in ONNX Runtime's environment: the negative log likelihood of windows of token ids.

onnx_runtime_score.py FOLDER IDS.i32 WINDOW
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from nll import nll
from onnx_runtime_make import ALL, empty_cache


def main(folder: str, ids: str, window: int) -> None:
    path = Path(folder) / ALL
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    cache = empty_cache(path.parent)
    windows = np.fromfile(ids, "<i4").reshape(-1, window).astype(np.int64)
    total = 0.0
    for each in windows:
        feed = {"input_ids": each[None, :-1], "attention_mask": np.ones((1, window - 1), np.int64), **cache}
        total += nll(session.run(["logits"], feed)[0][0], each[1:])
    print(json.dumps({"nll": total, "predictions": windows.shape[0] * (window - 1)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
