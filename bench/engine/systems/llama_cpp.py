"""llama.cpp as its Python package vendors it, built natively; timed by its own llama-bench.

Q4_0 with ``--pure``: without it a head of 576 input channels becomes Q8_0, one of 2048 Q6_K.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from engine.row import Scenario, Variant
from engine.shapes import Shape, peers_dir
from engine.systems.gguf_file import write_gguf
from engine.systems.process import run
from engine.systems.system import Command, System, folder_bytes, last_object
from mobilequant.data.cache import make_folder, publish_file

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"  # llama.cpp 0c1e57098
_OPTIONS = ("LLAMA_CURL=OFF", "LLAMA_BUILD_SERVER=OFF", "LLAMA_OPENSSL=OFF", "LLAMA_BUILD_TESTS=OFF")
NATIVE_BUILD, AVX2_BUILD = "build", "build-avx2"  # folders in its sources
_PROCESSORS = {
    NATIVE_BUILD: ("GGML_NATIVE=ON",),
    AVX2_BUILD: ("GGML_NATIVE=OFF", "GGML_AVX2=ON", "GGML_FMA=ON", "GGML_F16C=ON", "GGML_BMI2=ON"),
}
_TYPES = {"F16": "F16", "Q8_0": "Q8_0", "Q4_0 pure": "Q4_0"}
PROGRAM = Path(__file__).with_name("llama_nll.cpp")


class LlamaCpp(System):
    """Blocks of 32 weights share a 16-bit scale; activations are rounded to 8 bits in blocks of 32 at run time."""

    name = "llama.cpp"
    variants = (
        Variant(name, "F16", 16, 16),
        Variant(name, "Q8_0", 8.5, 8.5),
        Variant(name, "Q4_0 pure", 4.5, 4.5),
    )

    def prepare(self, shape: Shape) -> None:
        build()
        _build_nll_program()
        plain = write_gguf(shape.folder(), model_file(shape, "F16"))
        for variant in self.variants:
            if not (target := model_file(shape, variant.name)).is_file():
                pure = ["--pure"] if variant.name.endswith("pure") else []
                with publish_file(target) as made:
                    run([binary("llama-quantize"), *pure, plain, made, _TYPES[variant.name]])

    def stored_bytes(self, shape: Shape, variant: Variant) -> int:
        return folder_bytes(model_file(shape, variant.name))

    def commands(self, shape: Shape, variant: Variant, threads: int, scenario: Scenario) -> list[Command]:
        model = str(model_file(shape, variant.name))
        bench = [str(binary("llama-bench")), "-m", model, "-t", str(threads), "-r", "1", "-o", "jsonl"]
        decode = [*bench, "-p", "0", "-n", str(scenario.decode), "-d", str(scenario.context)]
        if not scenario.prompt:
            return [decode]
        prompt = [*bench, "-p", str(scenario.prompt), "-n", "0"]
        return [prompt, decode, [str(nll_program()), model, str(threads)]]

    def read(self, outputs: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        for output in outputs:
            told = last_object(output)
            if "avg_ts" in told:
                found["prefill_tok_s" if told["n_prompt"] else "decode_tok_s"] = told["avg_ts"]
            else:
                found["load_ms"] = told["load_ms"]
        return found

    def nll(self, shape: Shape, variant: Variant, ids: Path, window: int) -> dict[str, float]:
        return json.loads(run([nll_program(), model_file(shape, variant.name), "1", ids, str(window)]))


def model_file(shape: Shape, variant: str) -> Path:
    return _root() / "models" / shape.name / f"{variant.replace(' ', '-').lower()}.gguf"


def binary(name: str, folder: str = NATIVE_BUILD) -> Path:
    return _source() / folder / "bin" / name


def nll_program() -> Path:
    return binary("mobilequant-llama-nll")


def build(folder: str = NATIVE_BUILD) -> None:
    """Unpack the source package and build what is used of it: about five minutes on two cores."""
    source = _source()
    if not source.is_dir():
        _unpack()
    if not (binary("llama-bench", folder).is_file() and binary("llama-quantize", folder).is_file()):
        options = [f"-D{option}" for option in (*_OPTIONS, *_PROCESSORS[folder])]
        run(["cmake", "-S", source, "-B", source / folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *options])
        run(["ninja", "-C", source / folder, "llama-bench", "llama-quantize"])


def _build_nll_program() -> None:
    target = nll_program()
    if not target.is_file() or target.stat().st_mtime < PROGRAM.stat().st_mtime:
        source = _source()
        headers = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
        libraries = [f"-L{target.parent}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{target.parent}"]
        run(["g++", "-O2", "-std=c++17", *headers, PROGRAM, "-o", target, *libraries])


def _unpack() -> None:
    make_folder(_root())
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    run([*pip, "--dest", _root(), f"{PACKAGE}=={VERSION}"])
    with tarfile.open(next(_root().glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(_root(), filter="data")


def _root() -> Path:
    return peers_dir() / "llama_cpp"


def _source() -> Path:
    return _root() / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
