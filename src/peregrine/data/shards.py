"""Data in a few large files: which files they are, and how many images go into each."""

import glob
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from peregrine.data.base import Item
from peregrine.preprocess import SUFFIXES


def shards(location: Path, suffix: str) -> list[tuple[Path, PurePath]]:
    """The files with that suffix that `location` names, each with its path relative to there, in order of the names.

    `location` is such a file, a folder that has some in it or deeper, or a pattern as `photos/train-*.parquet`. Hidden
    files and folders are passed over.
    """
    if location.is_file():
        found = [location] if location.suffix.lower() == suffix else []
        return [(path, PurePath(path.name)) for path in found]
    if location.is_dir():
        paths = [Path(parent, name) for parent, _, names in _walk(location) for name in names]
        found = [path for path in paths if path.suffix.lower() == suffix]
        return sorted((path, path.relative_to(location)) for path in found)
    fixed = next((parent for parent in location.parents if parent.is_dir()), None)  # its name may look like a pattern
    if fixed is None or not is_pattern(location):
        return []
    matched = glob.glob(str(location.relative_to(fixed)), root_dir=fixed, recursive=True)  # noqa: PTH207
    return sorted(
        (fixed / name, PurePath(name)) for name in matched if name.lower().endswith(suffix) and (fixed / name).is_file()
    )


def divided(items: Iterable[Item], most_bytes: int, most: float = math.inf) -> Iterator[Iterator[Item]]:
    """Stretches of `items` that each end once they hold so many bytes, or so many items; to be used up one by one."""
    remaining = iter(items)

    def stretch(first: Item) -> Iterator[Item]:
        size = count = 0
        for item in itertools.chain([first], remaining):
            yield item
            size, count = size + len(item.content), count + 1
            if size >= most_bytes or count >= most:
                return

    for first in remaining:
        yield stretch(first)


def is_pattern(location: Path) -> bool:
    """Whether a path has characters that stand for others."""
    return glob.has_magic(str(location))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones, by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def holds_images(folder: Path) -> bool:
    """Whether there is a file with the name of an image in a folder of `folder`, or deeper."""
    return any(
        name.lower().endswith(SUFFIXES) for part in subfolders(folder) for _, _, names in _walk(part) for name in names
    )


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield parent, folders, [name for name in names if not name.startswith(".")]
