"""Is the faithful mode faithful? The published code's own run on SmolLM2-135M, repeated with ours.

    python bench/anchor.py --settings w8a8 w4a8-sym w4a8-asym --epochs 20 [--device cuda]

Same texts, windows, bit map, start, schedule and scoring as the run of the published code (saic-fi/MobileQuant, commit
8964f91); hashes of the windows are checked. Embedding, final norm, lm_head and residual additions are float: this is
the paper's simulation, not our integers. Prints perplexities beside the published code's, seconds per step and the
loss of each epoch, and adds a line per run to bench/results/anchor.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from torch import Tensor

from mobilequant.data.corpus import sotu
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.evaluate.protocol import ids_sha256
from mobilequant.methods.mobilequant import published_bits
from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS, last_residuals, published_schedule
from mobilequant.methods.registry import make
from mobilequant.methods.unit import all_units, unit_generator
from mobilequant.models import decoder
from mobilequant.models.model import Model
from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.numerics.qparams import QParams, asymmetric
from mobilequant.observe.collect import collect
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.method import Need, Unit
from mobilequant.pipeline.scheme import parse_scheme
from mobilequant.solvers.end_to_end import match_hidden
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.clipped_weight import ClippedWeights
from mobilequant.solvers.learned.pair_scale import PLAIN, PairScales
from mobilequant.solvers.learned.published_range import PUBLISHED as PUBLISHED_RANGES
from mobilequant.solvers.student import Student
from mobilequant.transforms.rewrite import rewritten

RESULTS = Path(__file__).parent / "results" / "anchor.jsonl"
RANGE_SHA256 = "fa9fc9a6cd7074f8981c26a15f9d3762bcd649333e4d594a91c7c4d963a4a841"
TRAIN_SHA256 = "5ee8316fc1dbc7adb7810fe4dd3f684ec64aff1d28859dcece929aae0491f8e0"
# Perplexity of the published code on all 271 windows of wiki_squad, by setting and epochs.
PUBLISHED = {
    ("w8a8", 20): 26.82,
    ("w4a8-sym", 20): 44.33,
    ("w4a8-sym", 60): 37.02,
    ("w4a8-asym", 20): 35.70,
}
FORMATS = {"w8a8": (8, False), "w4a8-sym": (4, True), "w4a8-asym": (4, False)}
SEED = 1337


def main() -> None:
    """Run the settings that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--range-windows", type=int, default=512, help="fewer only to try the script")
    parser.add_argument("--train-windows", type=int, default=128, help="fewer only to try the script")
    parser.add_argument("--length", type=int, default=2048, help="shorter only to try the script")
    arguments = parser.parse_args()
    model = resolve("smollm2-135m").to(device=arguments.device)
    tokenizer = Tokenizer.load(model.tokenizer_dir, num_rows=model.arch.vocab_size)
    on_range, on_training = calibration(tokenizer, arguments.length)
    on_range = on_range[: arguments.range_windows].to(arguments.device)
    on_training = on_training[: arguments.train_windows].to(arguments.device)
    scored = windows(tokenizer.encode(load_text("wiki_squad").content), window=512, count=None, seed=None)
    scored = scored.to(arguments.device)
    print(f"float: {perplexity(model, None, scored):.2f} (published code 23.38)", flush=True)
    smoothed = smooth(model, on_range)
    ranges = measured_ranges(smoothed, on_range)
    hidden = last_residuals(model, None, on_training)
    for setting in arguments.settings:
        found = run(setting, arguments.epochs, smoothed, ranges, on_training, hidden, scored)
        published = PUBLISHED.get((setting, arguments.epochs))
        print(json.dumps({**found, "published_ppl": published}, indent=1), flush=True)
        line = {**found, "published_ppl": published, "environment": environment().model_dump()}
        with RESULTS.open("a") as results:
            results.write(json.dumps(line) + "\n")


def calibration(tokenizer: Tokenizer, length: int) -> tuple[Tensor, Tensor]:
    """Windows for ranges and for training, drawn from the speeches as in the published run."""
    order = list(range(249))
    random.Random(SEED).shuffle(order)
    documents = sotu()
    speeches = [documents[i] for i in order]
    pool = [window for speech in speeches for window in full_windows(tokenizer.encode(speech), length)]
    random.Random(SEED).shuffle(pool)
    ids = tokenizer.encode("\n\n".join(speeches[:128]))
    draw = random.Random(SEED)
    starts = [draw.randint(0, len(ids) - length - 1) for _ in range(128)]
    on_range, on_training = torch.tensor(pool[:512]), torch.tensor([ids[i : i + length] for i in starts])
    for found, known in ((on_range, RANGE_SHA256), (on_training, TRAIN_SHA256)):
        if length == 2048 and ids_sha256(found) != known:
            raise SystemExit(f"the windows are not those of the published run: {ids_sha256(found)}")
    return on_range, on_training


def full_windows(ids: list[int], length: int) -> list[list[int]]:
    """What is left at the end is dropped."""
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]


def smooth(model: Model, on_range: Tensor) -> Model:
    """SmoothQuant with alpha one half on the pairs of the paper."""
    method = make("smoothquant", {"alpha": 0.5, "balance": "input", "pairs": list(PUBLISHED_PAIRS)})
    scheme = parse_scheme("static_w8c_a8_kv8")
    stats = collect(model, on_range, method.needs(model.arch, scheme))
    for name in all_units("block", model.arch):
        unit = Unit(name, model.arch, model.tensors, {})
        model = rewritten(model, method.apply(unit, stats, scheme, unit_generator(0, name)).rewrites)
    return model


def measured_ranges(model: Model, on_range: Tensor) -> dict[str, QParams]:
    """Least and largest value of every point that the paper rounds."""
    formats = published_bits.activations(model.arch)
    stats = collect(model, on_range, [Need("minmax", name) for name in formats])
    extremes = {name: stats[Need("minmax", name)] for name in formats}
    return {name: asymmetric(extremes[name].low, extremes[name].high, qtype) for name, qtype in formats.items()}


def run(
    setting: str,
    epochs: int,
    model: Model,
    ranges: dict[str, QParams],
    tokens: Tensor,
    hidden: Tensor,
    scored: Tensor,
) -> dict[str, object]:
    """Train one setting and score it."""
    num_bits, symmetric = FORMATS[setting]
    pairs = PairScales(model.arch, PUBLISHED_PAIRS, model.device, PLAIN)
    formats = published_bits.weights(model.arch, num_bits, symmetric=symmetric)
    learned = ActivationRanges(ranges, model.device, how=PUBLISHED_RANGES)
    student = Student(model, None, (pairs,), ClippedWeights(model, formats), learned)
    schedule = published_schedule(epochs, num_bits, symmetric=symmetric)
    before = perplexity(model, student, scored[:40])
    start = time.perf_counter()
    history = match_hidden(student, tokens, hidden, schedule, order=torch.Generator().manual_seed(SEED))
    seconds = time.perf_counter() - start
    return {
        "setting": setting,
        "epochs": epochs,
        "ppl_wiki_40_before": before,
        "ppl_wiki_40": perplexity(model, student, scored[:40]),
        "ppl_wiki_all": perplexity(model, student, scored),
        "s_per_step": seconds / (epochs * len(tokens)),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if tokens.is_cuda else None,
        "loss": history.training,
    }


@torch.inference_mode()
def perplexity(model: Model, student: Student | None, scored: Tensor) -> float:
    """Windows (N, T), each from position 0, tokens 2 … T predicted; final norm and lm_head in float."""
    total = 0.0
    for batch in scored.split(8):
        body = student.body(batch) if student else decoder.body(model, batch)
        for hidden, window in zip(body, batch, strict=True):
            logarithms = decoder.head(model, hidden[None])[0, :-1].log_softmax(-1)
            total -= logarithms.gather(1, window[1:, None]).double().sum().item()
    return math.exp(total / (len(scored) * (scored.shape[1] - 1)))


if __name__ == "__main__":
    main()
