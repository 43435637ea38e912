"""The one entry to data: `load_dataset`, from a name or a path to `Splits`."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from peregrine import catalog
from peregrine.data import exclusions, places
from peregrine.data.base import Layout, Loaded, Options, Resize, Source
from peregrine.dataset import Splits
from peregrine.errors import DataError, UsageError, machine_error, suggestion


def load_dataset(
    source: str | Path, *, size: int | None = None, resize: Resize = "crop", max_bad: float = 0.01, seed: int = 0
) -> Splits:
    """Load labelled images.

    Args:
        source: `cifar10`, `cifar100`, `digits`, or a folder: CIFAR batches, `train/` and `test/` with a folder per
            class, or a folder per class.
        size: side of the square images in pixels; None takes the data's own, or derives one and says so in the notes.
        resize: how other shapes become square: `crop` the centre or `pad` with black.
        max_bad: fraction of a folder's images that may be unreadable and left out.
        seed: of the test split of a folder that has none.

    Returns:
        Splits with uint8 images `(N, size, size, 3)`; validation is None unless the folder has one.

    Raises:
        UsageError: the source is unknown, or an argument is out of its range.
        DataError: the data cannot be trained on.
        CheckFailed: a file is damaged, or more images than `max_bad` are.
        MachineError: a download failed, or a disk cannot be read or written.
    """
    return load(source, Options(size, resize, max_bad, seed)).splits


def load(source: str | Path, options: Options) -> Loaded:
    """`load_dataset`, with the images that had to be left out."""
    with _explained():
        named = _named(source)
        excluded = exclusions.recall(identity(source))
        options = replace(options, exclude=excluded.ids)
        if named:
            loaded, name = named.load(options), str(source)
        else:
            location = _existing(source)
            loaded, name = _layout(location).load_from(location, options), str(location)
        return replace(loaded, splits=replace(exclusions.without(loaded.splits, excluded), source=name))


def identity(source: str | Path) -> str:
    """The name by which the cache knows data: of a source, or the resolved path.

    Raises:
        UsageError: the source is unknown.
    """
    return str(source) if _named(source) else str(_existing(source).resolve())


def fetch(source: str | Path) -> Path | None:
    """Make sure that the data is here, downloading it if need be: its folder, or None where a library brings it.

    Raises:
        UsageError, DataError, DamagedFile, MachineError: as `load_dataset`.
    """
    with _explained():
        named = _named(source)
        if named:
            return named.fetch()
        location = _existing(source)
        _layout(location)
        return location


def _named(source: str | Path) -> Source | None:
    """The source of that name; a `Path` is never a name."""
    if isinstance(source, str) and source in catalog.CATALOG["source"]:
        named: Source = catalog.load("source", source)
        return named
    return None


def _existing(source: str | Path) -> Path:
    location = Path(source).expanduser().absolute()
    if not str(source) or not location.exists():
        known = list(catalog.CATALOG["source"])
        siblings = [entry.name for entry in location.parent.iterdir()] if source and location.parent.is_dir() else []
        near = suggestion(str(source), known) or suggestion(location.name, siblings)
        raise UsageError(f"data is {', '.join(known)} or an existing folder; got {str(source)!r}{near}")
    return location


def _layout(location: Path) -> Layout:
    for key in catalog.CATALOG["layout"]:
        layout: Layout = catalog.load("layout", key)
        if layout.recognises(location):
            return layout
    held = "is a file" if location.is_file() else "holds none of them"
    raise DataError(
        "a data folder holds CIFAR batches, train/ and test/ with a folder per class, or a folder per class; "
        f"{location} {held}; see `peregrine data --help`"
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what the operating system refuses into the user's words."""
    try:
        yield
    except OSError as error:
        # an error without a name comes from writing, and what is written lies in the cache
        raise machine_error(error, error.filename or places.cache_folder()) from error
