"""README.md of a package folder: what the model is, how it was made, what it scores, where it fails, how to run it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mobilequant.pipeline.atomic_file import write_text
from mobilequant.report import wording
from mobilequant.report.points import by_role
from mobilequant.report.schema import ModelInfo, Result, SchemeInfo, Score, as_result, float_reference, loss_percent

_HOW_TO_RUN = """## How to run

```sh
pip install mobilequant
mobilequant generate . --prompt "Once upon a time" --max-new-tokens 64 --greedy
mobilequant inspect .
```

The integers are specified bit for bit, so that any runtime can be checked against the reference."""

_ALWAYS_A_LIMIT = (
    "The package inherits the abilities, the gaps and the biases of the model it was made from, and its licence.",
    "A perplexity measures one text; try your own before you rely on it.",
)


def write_model_card(path: Path, result: Mapping[str, Any] | Result) -> None:
    """Write the card of the first scheme of ``result`` (see ``report.schema``; every section is optional).

    Raises:
        DataError: the mapping is not a result.
        ResourceError: the place cannot be written.
    """
    write_text(path, render_model_card(as_result(result)))


def render_model_card(result: Result) -> str:
    """The card as Markdown with the front matter that model hubs read."""
    parts = [_front_matter(result), f"# {plain(result.name)}, integers only", *_sections(result)]
    return "\n\n".join(parts) + "\n"


def _sections(result: Result) -> Iterator[str]:
    if result.model:
        yield _model(result.model)
    if result.schemes:
        yield _scheme(result.schemes[0])
    if result.scores:
        yield _scores(result)
    yield "## Limits\n\n" + _bullets([*result.notes, *_ALWAYS_A_LIMIT])
    yield _HOW_TO_RUN
    if result.hashes:
        yield "## Hashes (sha256)\n\n" + _table(
            ("what", "hash"), [(plain(k), code(v)) for k, v in result.hashes.items()]
        )


def _front_matter(result: Result) -> str:
    model = result.model
    fields = {
        "library_name": "mobilequant",
        "license": (model.license if model else "") or "unknown",
        "base_model": model.name if model else "",
        "pipeline_tag": "text-generation",
        "tags": ["mobilequant", "quantized", "integer-only", *(scheme.name for scheme in result.schemes[:1])],
    }
    known = {key: _one_line(value) if isinstance(value, str) else value for key, value in fields.items() if value}
    return "---\n" + yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=1000) + "---"


def _model(model: ModelInfo) -> str:
    rows = [
        ("model", plain(model.name)),
        ("source", plain(model.source)),
        ("family", plain(model.family)),
        ("licence of the weights", plain(model.license) or "not known: look at the source"),
        ("parameters", wording.count(model.parameters)),
    ]
    return "## Model\n\n" + _table(("", ""), [row for row in rows if row[1] not in ("", wording.MISSING)])


def _scheme(scheme: SchemeInfo) -> str:
    rows = [
        ("scheme", code(scheme.name)),
        ("preset", code(scheme.preset) if scheme.preset else wording.MISSING),
        ("bits per weight, scales and embedding included", wording.decimal(scheme.bits_per_weight)),
        ("size", wording.megabytes(scheme.size_bytes)),
        ("float operations from token ids to logits", wording.count(scheme.float_ops)),
        (
            "16-bit activations",
            "; ".join(f"{code(role)} {layers}".strip() for role, layers in by_role(scheme.sixteen_bit)),
        ),
    ]
    return "## Scheme\n\n" + _table(("", ""), [row for row in rows if row[1] not in ("", wording.MISSING)])


def _scores(result: Result) -> str:
    reference = float_reference(result.scores)
    header = ("model", "computed in", "perplexity", "over float", "KL, nats", "same first choice")
    lines = ["## Scores", "", _table(header, [_score_row(score, reference) for score in result.scores])]
    if result.protocol:
        record = result.protocol
        text = f" of {code(record.text)}" if record.text else ""
        bos = "without BOS" if record.bos is None else f"with BOS ({record.bos})"
        lines += [
            "",
            f"{record.predictions:,} predictions{text}: {record.windows} windows of {record.window} tokens, {bos}.",
        ]
    return "\n".join(lines)


def _score_row(score: Score, reference: Score | None) -> tuple[str, ...]:
    name = f"{score.label} · {score.scheme}" if score.scheme else score.label
    return (
        f"**{plain(name)}**" if score.is_headline else plain(name),
        wording.kind(score.kind),
        wording.perplexity(score.ppl),
        wording.change(loss_percent(score, reference)),
        wording.decimal(score.kl, 4),
        wording.share(score.top1),
    )


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def plain(text: str) -> str:
    """Foreign text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|&#$~])", r"\\\1", _one_line(text))


def code(text: str) -> str:
    """Foreign text as a code span, safe inside a table."""
    return "`" + _one_line(text).replace("`", "'").replace("|", "\\|") + "`"


def _one_line(text: str) -> str:
    return " ".join(text.split())
