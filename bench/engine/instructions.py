"""How many instructions a token takes, counted in Valgrind: a virtual machine often hides the processor's counters.

    PYTHONPATH=bench python -m engine.instructions

Valgrind knows nothing newer than AVX2, so that both programs run what they have for it, with one thread, on the real
model behind an empty context. A token's share is the difference of two runs: what loading takes falls out. Writes
bench/results/engine_instructions.json, which ``engine.table`` prints.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engine.results import INSTRUCTIONS
from engine.row import Variant
from engine.shapes import REAL, SHAPES
from engine.systems.llama_cpp import AVX2_BUILD, LlamaCpp, binary, build, model_file
from engine.systems.mobilequant import MobileQuant
from engine.systems.process import run
from mobilequant.pipeline.atomic_file import write_text
from mobilequant.pipeline.environment import environment

ROOT = Path(__file__).parents[2]
PROMPTS, DECODES = (64, 128), (4, 12)  # tokens of the shorter and of the longer run
Command = Callable[[int, int], list[str]]  # of tokens of a prompt and of tokens to decode; one of them may be 0


def main() -> None:
    build(AVX2_BUILD)
    run(["cmake", "--preset", "native"], cwd=ROOT)
    run(["cmake", "--build", "--preset", "native", "--target", "mobilequant-run"], cwd=ROOT)
    rows = [
        *((variant, _ours(variant)) for variant in MobileQuant.variants),
        *((variant, _llama_cpp(variant)) for variant in LlamaCpp.variants if variant.name != "F16"),
    ]
    found = []
    for variant, command in rows:
        prompt = per_token(*(counted(command(length, 0)) for length in PROMPTS), *PROMPTS)
        decode = per_token(*(counted(command(0, length)) for length in DECODES), *DECODES)
        found.append({"row": variant.title, "prompt": prompt, "decode": decode})
        print(
            f"{variant.title}: {prompt / 1e6:.1f} M a token of a prompt, {decode / 1e6:.1f} M decoded", file=sys.stderr
        )
    told = {"environment": environment().model_dump(), "rows": found}
    write_text(INSTRUCTIONS, json.dumps(told, indent=1) + "\n")


def per_token(few: int, many: int, from_tokens: int, to_tokens: int) -> float:
    """Instructions of two runs, and how many tokens they read."""
    return (many - few) / (to_tokens - from_tokens)


def counted(command: list[str]) -> int:
    """Instructions of a program from its start to its end."""
    tool = ["valgrind", "--tool=exp-bbv", "--instr-count-only=yes", "--bb-out-file=/dev/null"]
    ended = subprocess.run([*tool, *command], capture_output=True, text=True, check=True)
    return total(ended.stderr)


def total(told: str) -> int:
    """What exp-bbv prints at its end."""
    found = re.search(r"Total instructions: (\d+)", told)
    if found is None:
        raise ValueError(f"Valgrind did not say how many instructions it saw: {told[-500:]}")
    return int(found.group(1))


def _ours(variant: Variant) -> Command:
    program, package = ROOT / "build/native/csrc/mobilequant-run", MobileQuant().package(SHAPES[REAL], variant)
    fixed = [str(program), str(package), "--threads", "1", "--kernels", "avx2"]

    def command(prompt: int, decode: int) -> list[str]:
        tokens = ",".join(str(token) for token in range(1, 1 + max(1, prompt)))
        return [*fixed, "--tokens", tokens, "--max-new-tokens", str(max(1, decode))]

    return command


def _llama_cpp(variant: Variant) -> Command:
    program, model = binary("llama-bench", AVX2_BUILD), model_file(SHAPES[REAL], variant.name)
    fixed = [str(program), "-m", str(model), "-t", "1", "-r", "1", "--no-warmup"]
    return lambda prompt, decode: [*fixed, "-p", str(prompt), "-n", str(decode)]


if __name__ == "__main__":
    main()
