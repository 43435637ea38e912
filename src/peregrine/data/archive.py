"""Unpacking a `.tar.gz` that came from elsewhere, without letting it do anything else."""

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from peregrine import files
from peregrine.data import places
from peregrine.errors import DamagedFile

MAX_BYTES = 1 << 30
MAX_FILES = 10_000


def extract(archive: Path, target: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> Path:
    """Unpack `archive` into the new folder `target`, which appears when everything is in it, and return it.

    Only plain files and folders below `target` are accepted. The caps hold for what comes out, headers included, so an
    archive that announces little and unpacks to much stops at the cap.

    Raises:
        DamagedFile: the archive is truncated, too large, or holds a link, a device, `..` or an absolute path.
        OSError: the disk is full or cannot be written to.
    """
    with places.locked(target.parent), files.writing_folder(target) as temporary:
        try:
            # "r|" only reads forward, so every byte goes through the cap once
            with _Capped(archive, max_bytes) as content, tarfile.open(fileobj=content, mode="r|") as tar:
                for count, member in enumerate(tar, 1):
                    _check(member, archive)
                    if count > max_files:
                        raise DamagedFile(f"{archive} is refused: it holds more than {max_files:,} files")
                    tar.extract(member, temporary, filter="data")
                while content.read(1 << 20):  # to the end, where gzip's checksum stands
                    pass
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DamagedFile(f"{archive} is damaged: {error}; delete it and get it again") from None
    return target


def _check(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DamagedFile(f"{archive} is refused: {member.name!r} would land outside the folder; get the official one")
    if not (member.isfile() or member.isdir()):
        raise DamagedFile(f"{archive} is refused: {member.name!r} is a link or a device; get the official one")


class _Capped(gzip.GzipFile):
    """A gzip file that refuses to give more than `limit` bytes."""

    def __init__(self, archive: Path, limit: int) -> None:
        super().__init__(archive, "rb")
        self._archive = archive
        self._limit = self._left = limit

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise DamagedFile(f"{self._archive} is refused: it unpacks to more than {self._limit:,} bytes")
        return piece
