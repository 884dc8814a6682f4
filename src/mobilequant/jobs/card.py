"""The model card: what lies in a package, for the person who opens the folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilequant.integer.graph import IntegerGraph
from mobilequant.jobs.measure import bits_per_weight
from mobilequant.pipeline.resource import size

_CARD = """\
# {model}, integers only ({scheme})

Made by MobileQuant {version} from `{model}` ({family}, weights sha256 `{model_sha256:.16}…`).
Between token ids and integer logits there are {float_ops} floating-point operations.

| | |
|---|---|
| scheme | `{scheme}` |
| stored bits per weight (scales, embedding and lm_head included) | {bits:.3f} |
| stored size | {size} |
| linear inputs kept in 16 bits | {wide} |
| constant prefix | {prefix} |
| context | {context} tokens |
| calibration text | `{text}` (sha256 `{text_sha256:.16}…`) |
| recipe | `recipe.yaml` (sha256 `{recipe_sha256:.16}…`) |

```console
mobilequant generate DIR --prompt "The capital of France is" --max-new-tokens 32 --greedy
mobilequant eval DIR --text FILE --window 512 --tokens 20440
```

The licence and the limits of the original model apply. Measure the loss on text of your own domain before you ship.
"""


def model_card(graph: IntegerGraph, about: Mapping[str, Any]) -> str:
    """README.md of a package; ``about`` is what its manifest says."""
    stored = sum(constant.stored_bits() for constant in graph.constants.values()) // 8
    return _CARD.format(
        model=about["model"]["name"],
        family=about["model"]["family"],
        model_sha256=about["model"]["sha256"],
        scheme=about["scheme"],
        version=about["environment"].get("mobilequant", "(source tree)"),
        float_ops=len(graph.float_ops()),
        bits=bits_per_weight(graph),
        size=size(stored),
        wide=", ".join(f"`{name}`" for name in about["sixteen_bit"]) or "none",
        prefix=f"{graph.num_prefix} tokens {list(graph.prefix_tokens)}" if graph.num_prefix else "none",
        context=graph.context,
        text=about["calibration"]["text"],
        text_sha256=about["calibration"]["sha256"],
        recipe_sha256=about["recipe_sha256"],
    )
