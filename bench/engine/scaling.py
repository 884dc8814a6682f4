"""How both programs scale with cores: mobilequant-run and llama-bench in turns; Python and these suffice.

    python3 bench/engine/scaling.py MOBILEQUANT_RUN PACKAGE LLAMA_BENCH GGUF --threads 1 2 4 8 16 > scaling.jsonl

Each line is one sample: a prompt of 512 read at once, and 128 tokens decoded behind it. Committed:
bench/results/engine_scaling.jsonl, 16 cores of a Sapphire Rapids whose host others used too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess

PROMPT, DECODE = 512, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "package", "llama_bench", "gguf"):
        parser.add_argument(name)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kernels", nargs="+", default=["avx512-vnni", "avx-vnni"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for number in range(given.rounds):
        for threads in given.threads:
            for kernels in given.kernels:
                sample = {"round": number, "threads": threads, "row": f"MobileQuant, {kernels}"}
                print(json.dumps({**sample, **ours(given.program, given.package, threads, kernels)}), flush=True)
            sample = {"round": number, "threads": threads, "row": "llama.cpp"}
            print(json.dumps({**sample, **theirs(given.llama_bench, given.gguf, threads)}), flush=True)


def ours(program: str, package: str, threads: int, kernels: str) -> dict[str, float]:
    words = [program, package, "--bench", f"{PROMPT},{DECODE}", "--threads", str(threads), "--kernels", kernels]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return {name: float(value) for name, value in re.findall(r"(\w+_tok_s) ([\d.]+)", told)}


def theirs(program: str, gguf: str, threads: int) -> dict[str, float]:
    words = [program, "-m", gguf, "-t", str(threads), "-r", "1", "-o", "jsonl"]
    prompt = ["-p", str(PROMPT), "-n", "0"]
    decode = ["-p", "0", "-n", str(DECODE), "-d", str(PROMPT)]
    return {"prefill_tok_s": _speed([*words, *prompt]), "decode_tok_s": _speed([*words, *decode])}


def _speed(words: list[str]) -> float:
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return float(json.loads(told.splitlines()[-1])["avg_ts"])


if __name__ == "__main__":
    main()
