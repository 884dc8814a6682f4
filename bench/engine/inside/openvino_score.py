"""Runs in OpenVINO's environment: the negative log likelihood of windows of token ids.

openvino_score.py FOLDER IDS.i32 WINDOW
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino as ov
from nll import nll


def main(folder: str, ids: str, window: int) -> None:
    request = ov.Core().compile_model(Path(folder) / "openvino_model.xml", "CPU").create_infer_request()
    windows = np.fromfile(ids, "<i4").reshape(-1, window).astype(np.int64)
    total = 0.0
    for each in windows:
        request.reset_state()
        tokens = each[None, :-1]
        places = np.arange(window - 1)[None]
        feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "position_ids": places}
        total += nll(request.infer({**feed, "beam_idx": np.zeros(1, np.int32)})["logits"][0], each[1:])
    print(json.dumps({"nll": total, "predictions": windows.shape[0] * (window - 1)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
