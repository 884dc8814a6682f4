"""Files out of a .tgz, without unpacking it to disk and without trusting a word of it."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from pathlib import Path

from mobilequant.errors import DataError


def read_files(tarball: Path, wanted: re.Pattern[str], *, limit_bytes: int) -> dict[str, bytes]:
    """The regular files whose whole name matches ``wanted``, in the order of the archive.

    Links, devices, sparse files and everything of another name are passed over. ``limit_bytes`` bounds what is
    unpacked altogether. Raises DataError when the archive is damaged, larger than that, or has a name twice.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpack(tarball, limit_bytes))) as archive:
            members = [info for info in archive if _is_plain(info) and wanted.fullmatch(info.name)]
            files = {info.name: _content(archive, info) for info in members}
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise _unreadable(tarball, str(error)) from error
    if len(files) < len(members):
        raise _unreadable(tarball, "it has two files of one name")
    return files


def _unpack(tarball: Path, limit_bytes: int) -> bytes:
    with gzip.open(tarball) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"it unpacks to more than {limit_bytes:,} bytes")
    return content


def _is_plain(info: tarfile.TarInfo) -> bool:
    return info.isreg() and not info.issparse()


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    content = stream.read() if stream else b""
    if len(content) != info.size:
        raise ValueError(f"{info.name} is cut off")
    return content


def _unreadable(tarball: Path, reason: str) -> DataError:
    return DataError(f"Cannot read {tarball}: {reason}.", f"Delete {tarball} and run again: it is downloaded anew.")
