"""Runs in ONNX Runtime's environment: make a graph with its weights from a Hugging Face folder.

    onnx_runtime_make.py int4|static HF_FOLDER OUT CALIBRATION.i32

OUT gets all_logits.onnx, model.onnx (the head sees the last token only), weights (*.data) and genai_config.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

WINDOW = 512
ALL, LAST = "all_logits.onnx", "model.onnx"


def main(kind: str, source: str, out: str, calibration: str) -> None:
    folder = Path(out)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        if kind == "int4":
            _build(source, folder, scratch, "int4", int4_accuracy_level="4", int4_block_size="32")
            (folder / LAST).rename(folder / ALL)
        else:
            plain = Path(scratch) / "fp32"
            _build(source, plain, scratch, "fp32")
            _quantize(plain / LAST, folder / ALL, np.fromfile(calibration, "<i4").reshape(-1, WINDOW))
            (folder / "genai_config.json").write_bytes((plain / "genai_config.json").read_bytes())
    model = onnx.load(folder / ALL, load_external_data=False)
    keep_last_token(model)
    onnx.save(model, folder / LAST)


def _build(source: str, out: Path, scratch: str, precision: str, **options: str) -> None:
    """With the package's own program, which talks a lot."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", source, "-o", str(out), "-e", "cpu"]
    command += ["-p", precision, "-c", f"{scratch}/cache"]
    command += ["--extra_options", *(f"{name}={value}" for name, value in options.items())] if options else []
    subprocess.run(command, check=True, stdout=sys.stderr)


def _quantize(source: Path, target: Path, tokens: np.ndarray) -> None:
    """Every MatMul with a constant: activations u8 with fixed ranges, weights s8 per output channel."""
    quantize_static(
        source,
        target,
        _Windows(source, tokens),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        extra_options={"MatMulConstBOnly": True},
    )


class _Windows(CalibrationDataReader):
    """Each window alone, behind an empty cache."""

    def __init__(self, path: Path, tokens: np.ndarray) -> None:
        self._feeds = self._each(empty_cache(path.parent), tokens)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)

    @staticmethod
    def _each(cache: dict[str, np.ndarray], tokens: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for window in tokens.astype(np.int64):
            yield {"input_ids": window[None], "attention_mask": np.ones((1, len(window)), np.int64), **cache}


def empty_cache(folder: Path) -> dict[str, np.ndarray]:
    """Keys and values (1, Hkv, 0, D) of every layer."""
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    shape = (1, decoder["num_key_value_heads"], 0, decoder["head_size"])
    names = [f"past_key_values.{layer}" for layer in range(decoder["num_hidden_layers"])]
    return {f"{name}.{kind}": np.zeros(shape, np.float32) for name in names for kind in ("key", "value")}


def keep_last_token(model: onnx.ModelProto) -> None:
    """Put a Gather of the last token in front of the head, and in front of its quantization, where it has one."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    head = makers["logits"]
    while not head.op_type.startswith("MatMul"):
        head = makers[head.input[0]]
    reader = head
    while (before := makers[reader.input[0]]).op_type in ("DequantizeLinear", "QuantizeLinear"):
        reader = before
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "last_token"))
    gather = helper.make_node("Gather", [reader.input[0], "last_token"], ["last_hidden"], "last_hidden", axis=1)
    graph.node.insert(list(graph.node).index(reader), gather)
    reader.input[0] = "last_hidden"


if __name__ == "__main__":
    main(*sys.argv[1:])
