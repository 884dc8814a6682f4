import gzip
import io
import re
import tarfile

import pytest

from mobilequant.data.tarball import read_files
from mobilequant.errors import DataError

WANTED = re.compile(r"package/c[0-9]")


def packed(path, members, kind="w:gz"):
    with tarfile.open(path, kind) as archive:
        for name, content, type_ in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = type_, len(content), "/etc/hostname"
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "thing-1.0.tgz"


def test_only_regular_files_of_the_expected_names(path):
    members = [
        ("package/c2", b"two", tarfile.REGTYPE),
        ("package/c1", b"one", tarfile.REGTYPE),
        ("package/c3", b"", tarfile.SYMTYPE),
        ("package/c4", b"", tarfile.LNKTYPE),
        ("package/c5", b"", tarfile.FIFOTYPE),
        ("package/c6", b"", tarfile.DIRTYPE),
        ("package/../c7", b"evil", tarfile.REGTYPE),
        ("/package/c8", b"evil", tarfile.REGTYPE),
        ("package/c9.js", b"evil", tarfile.REGTYPE),
    ]
    files = read_files(packed(path, members), WANTED, limit_bytes=1 << 20)
    assert list(files.items()) == [("package/c2", b"two"), ("package/c1", b"one")]


def test_a_bomb_is_refused_before_it_is_unpacked(path):
    packed(path, [("package/c1", bytes(10_000_000), tarfile.REGTYPE)])
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        read_files(path, WANTED, limit_bytes=1_000_000)


def test_two_files_of_one_name_are_refused(path):
    packed(path, [("package/c1", b"one", tarfile.REGTYPE), ("package/c1", b"other", tarfile.REGTYPE)])
    with pytest.raises(DataError, match="two files of one name"):
        read_files(path, WANTED, limit_bytes=1 << 20)


def test_a_length_that_the_archive_does_not_have(path):
    info = tarfile.TarInfo("package/c1")
    info.size = 1 << 40
    path.write_bytes(gzip.compress(info.tobuf() + b"short"))
    with pytest.raises(DataError, match="Cannot read"):
        read_files(path, WANTED, limit_bytes=1 << 20)


@pytest.mark.parametrize("keep", [0, 1, 30, 90])
def test_damaged_archives(path, keep):
    packed(path, [("package/c1", bytes(range(256)) * 9, tarfile.REGTYPE)])
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(DataError, match="Cannot read"):
        read_files(path, WANTED, limit_bytes=1 << 20)
    path.write_bytes(content[:keep] + b"\0garbage" + content[keep + 8 :])
    with pytest.raises(DataError, match="Cannot read"):
        read_files(path, WANTED, limit_bytes=1 << 20)


def test_no_archive_at_all(path):
    path.write_text("a web page that says: sign in")
    with pytest.raises(DataError, match="Cannot read"):
        read_files(path, WANTED, limit_bytes=1 << 20)
