"""Image files on disk, which may be anything: read whole, within the folder that the user named, or not at all."""

import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peregrine.data.base import Entry, Read
from peregrine.preprocess import BadImage

MAX_BYTES = 256 << 20  # no photo is larger; a sparse file of a terabyte may be
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # each system has one of them


def read(path: str) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it cannot be read; the message says why.
    """
    try:
        # a file object takes longer than a small file takes to read; to open a pipe without _AT_ONCE takes for ever
        file = os.open(path, os.O_RDONLY | _AT_ONCE)
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise BadImage("not a regular file")
            check_size(info.st_size)
            return os.read(file, info.st_size)
        finally:
            os.close(file)
    except OSError as error:
        raise BadImage((error.strerror or str(error)).lower()) from None


def check_size(size: int) -> None:
    """Refuse what is too large to be an image.

    Raises:
        BadImage: `size` in bytes is more than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise BadImage(f"{size:,} bytes are more than {MAX_BYTES:,}")


@dataclass(frozen=True, slots=True)
class Held:
    """A `Read` whose content is in memory already, and takes room there as long as it waits; None is no content."""

    content: bytes | None

    def __call__(self) -> bytes:
        if self.content is None:
            raise BadImage("the row has no bytes")
        check_size(len(self.content))
        return self.content


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
