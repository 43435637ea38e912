"""Image files on disk, which may be anything: read whole, within the folder that the user named, or not at all."""

import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from peregrine.data.base import Entry, Read
from peregrine.preprocess import BadImage

MAX_BYTES = 256 << 20  # no photo is larger; a sparse file of a terabyte may be


def read(path: str) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it cannot be read; the message says why.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise BadImage("not a regular file")
            check_size(info.st_size)
            return file.read(MAX_BYTES)
    except OSError as error:
        raise BadImage((error.strerror or str(error)).lower()) from None


def check_size(size: int) -> None:
    """Refuse what is too large to be an image.

    Raises:
        BadImage: `size` in bytes is more than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise BadImage(f"{size:,} bytes are more than {MAX_BYTES:,}")


def contents(root: Path) -> Callable[[Iterable[Entry]], Iterator[Read]]:
    """`Listing.contents` for entries whose place is a path below `root`.

    A link may lead to another place below `root`, and not out of it: what lies elsewhere is not part of the data.
    """
    inside = f"{os.path.realpath(root)}{os.sep}"

    @functools.cache
    def is_inside(folder: str) -> bool:
        return f"{os.path.realpath(folder)}{os.sep}".startswith(inside)

    def read_inside(path: str) -> bytes:
        folder = os.path.dirname(path)  # noqa: PTH120
        linked = os.path.islink(path)  # noqa: PTH114
        if not is_inside(folder) or (linked and not os.path.realpath(path).startswith(inside)):
            raise BadImage("a link leads out of the data's folder; put the file itself there")
        return read(path)

    return lambda entries: (functools.partial(read_inside, entry.place) for entry in entries)


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe at once; the plain way waits until somebody writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has none
