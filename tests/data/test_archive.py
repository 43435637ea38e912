"""Unpacking: what is whole and harmless, and nothing else."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from peregrine.data import archive
from peregrine.errors import DamagedFile


def member(name: str, content: bytes = b"content", **attributes: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def write(path: Path, *members: tuple[tarfile.TarInfo, io.BytesIO]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, content)
    return path


def test_unpacks(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in" / "a.tar.gz",
        member("batches/", b"", type=tarfile.DIRTYPE, mode=0o755),
        member("batches/one", b"1", mode=0o6777),
        member("batches/deep/two", b"2"),
    )
    target = archive.extract(source, tmp_path / "out" / "cifar10")
    assert (target / "batches/one").read_bytes() == b"1"
    assert (target / "batches/deep/two").read_bytes() == b"2"
    assert not (target / "batches/one").stat().st_mode & 0o6022


HOSTILE = {
    "parent": ([member("../evil")], r"is refused: '../evil' would land outside the folder; get the official one"),
    "parent below": ([member("batches/../../evil")], r".*would land outside"),
    "absolute": ([member("/tmp/evil")], r"is refused: '/tmp/evil' would land outside"),
    "symlink": ([member("x", b"", type=tarfile.SYMTYPE, linkname="/etc")], r"is refused: 'x' is a link or a device"),
    "write through a symlink": (
        [member("x", b"", type=tarfile.SYMTYPE, linkname=".."), member("x/evil")],
        r".*'x' is a link or a device",
    ),
    "hard link": ([member("x"), member("y", b"", type=tarfile.LNKTYPE, linkname="x")], r".*'y' is a link or a device"),
    "device": ([member("x", b"", type=tarfile.CHRTYPE)], r".*'x' is a link or a device"),
    "fifo": ([member("x", b"", type=tarfile.FIFOTYPE)], r".*'x' is a link or a device"),
    "too many": ([member(f"x{i}", b"") for i in range(21)], r"is refused: it holds more than 20 files"),
    "too much": ([member("x", bytes(50_000))], r"is refused: it unpacks to more than 40,000 bytes"),
    "too much header": (
        [member("x", b"", pax_headers={"comment": "x" * 50_000})],
        r"is refused: it unpacks to more than 40,000 bytes",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_refuses(tmp_path: Path, kind: str) -> None:
    members, message = HOSTILE[kind]
    source = write(tmp_path / "in" / "a.tar.gz", member("batches/fine"), *members)
    with pytest.raises(DamagedFile, match=rf"a\.tar\.gz {message}"):
        archive.extract(source, tmp_path / "out" / "x", max_bytes=40_000, max_files=20)
    nothing_left(tmp_path)


def test_truncated(tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "a.tar.gz", member("batches/random", os.urandom(100_000)))
    whole = source.read_bytes()
    for length in (0, 5, 300, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        source.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match=r"a\.tar\.gz is damaged: .*; delete it and get it again"):
            archive.extract(source, tmp_path / "out" / "x")
        nothing_left(tmp_path)


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.tar.gz"
    for content in (b"<html>moved</html>", gzip.compress(b"not a tar" * 1000)):
        source.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"a\.tar\.gz is damaged"):
            archive.extract(source, tmp_path / "out" / "x")
        nothing_left(tmp_path)


def nothing_left(tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
