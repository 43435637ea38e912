"""Files that are whole or absent: atomic writes, atomic folders, checksums.

A reader, or a run that comes after a kill or a power cut, sees the old content or the new one and nothing between:
temporary name in the same folder, flush to disk, rename, flush the folder.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peregrine.errors import DamagedFile, UsageError

_TEMPORARY = ".tmp-"  # prefix of everything unfinished; readers skip it, writers may sweep it
_ASIDE = ".aside"  # suffix of the folder in which an old version waits for its successor


def check_text(path: str | Path) -> None:
    """Refuse a path that cannot be written down, before anything is done with it.

    Raises:
        UsageError: it is not valid UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"paths are written down as UTF-8; got {str(path)!a}, which is not; rename it") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, atomically and durably."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 `content`, atomically and durably."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON with a final newline; NaN is refused, because JSON has none."""
    write_text(path, _as_json(content))


def replace_json(path: Path, content: Any) -> None:
    """`write_json` without waiting for the disk: readers see it whole, but a power cut may take it back.

    For what is written again and again, in a tenth of a millisecond.
    """
    temporary = _beside(path, path.suffix)
    try:
        temporary.write_text(_as_json(content), "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read JSON; a file that is none is a `DamagedFile` that names it."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path} is not valid JSON ({error}); restore it or delete it") from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well, and vanishes when it does not.

    The temporary name keeps the suffix, because some libraries choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, path.suffix)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block ends well.

    No system call replaces a folder that is not empty, so an existing `path` is moved aside first. `sweep` moves it
    back after a kill between the two renames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
        move_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent` that vanishes with the block; after a kill, `sweep` removes it."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = _beside(parent / "scratch")
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(finished: Path, path: Path) -> None:
    """Put a finished folder in the place of `path`, on the same disk, durably and as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for entry in sorted(finished.rglob("*")):
        _flush(entry)
    _flush(finished)
    if path.exists():
        _exchange(finished, path)
    else:
        finished.rename(path)
    _flush(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether a name in a listing belongs to something unfinished, which readers skip."""
    return path.name.startswith(_TEMPORARY)


def sweep(folder: Path) -> None:
    """Remove what a killed writer left unfinished in `folder`. Call it only while holding the folder's lock."""
    for aside in folder.glob(f"{_TEMPORARY}*{_ASIDE}"):
        for old in aside.iterdir():
            if not (folder / old.name).exists():
                old.rename(folder / old.name)
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hex SHA-256 of a file, read in pieces; `progress` gets the number of bytes of each."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            if progress:
                progress(len(piece))
    return digest.hexdigest()


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _beside(path: Path, suffix: str = "") -> Path:
    """A new name in the same folder; created the plain way, so that the umask decides who may read."""
    return path.with_name(f"{_TEMPORARY}{os.urandom(8).hex()}{suffix}")


def _exchange(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`, which is removed; on failure `path` is back where it was."""
    aside = _beside(path, _ASIDE)
    aside.mkdir()
    old = aside / path.name
    try:
        path.rename(old)
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
