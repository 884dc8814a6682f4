"""What the texts ``broad`` and ``ample`` are made of, and how long it takes to draw training windows from them.

    python bench/training_text.py [--text broad] [--model smollm2-135m] [--windows 2048] [--window 512]

Prints one JSON line per part (documents, bytes, tokens of the model's tokenizer), then one for the whole.
"""

from __future__ import annotations

import argparse
import json
import time

from mobilequant.data.broad import AMPLE, BROAD, parts
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.models.sources import resolve_folder
from mobilequant.models.tokenizer import Tokenizer


def main() -> None:
    """Count every part, then load, tokenize and cut the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", choices=["broad", "ample"], default="broad")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--window", type=int, default=512)
    arguments = parser.parse_args()
    encode = Tokenizer.load(resolve_folder(arguments.model)).encode
    for name, documents in parts(BROAD if arguments.text == "broad" else AMPLE).items():
        size_bytes = sum(len(document.encode()) for document in documents)
        tokens = len(encode("\n\n".join(documents)))
        print(json.dumps({"part": name, "documents": len(documents), "size_bytes": size_bytes, "tokens": tokens}))
    started = time.perf_counter()
    text = load_text(arguments.text)
    loaded = time.perf_counter()
    ids = encode(text.content)
    encoded = time.perf_counter()
    drawn = windows(ids, window=arguments.window, count=arguments.windows, seed=0)
    cut = time.perf_counter()
    times_s = {"load_s": loaded - started, "encode_s": encoded - loaded, "windows_s": cut - encoded}
    rounded = {name: round(value, 2) for name, value in times_s.items()}
    print(json.dumps({"documents": len(text.parts), "tokens": len(ids), "windows": list(drawn.shape), **rounded}))


if __name__ == "__main__":
    main()
