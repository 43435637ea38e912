"""The one entry to data: `load_dataset`, from a name or a path to `Splits`."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from peregrine import catalog, files
from peregrine.data import exclusions, places
from peregrine.data.base import Layout, Listing, Loaded, Options, Resize, Source
from peregrine.data.shards import is_pattern
from peregrine.dataset import Splits
from peregrine.errors import DataError, UsageError, machine_error, suggestion


def load_dataset(
    source: str | Path,
    *,
    size: int | None = None,
    resize: Resize = "crop",
    max_bad: float = 0.01,
    seed: int | None = 0,
) -> Splits:
    """Load labelled images.

    Args:
        source: `cifar10`, `cifar100`, `digits`; a folder of CIFAR batches, of `train/` and `test/` with a folder per
            class, or of a folder per class; Parquet files, WebDataset's tar files (a file, a folder or a pattern as
            `photos/*.parquet`) or a CSV file; or `hf://owner/name` on the Hugging Face hub.
        size: side of the square images in pixels; None takes the data's own, or derives one and says so in the notes.
        resize: how other shapes become square: `crop` the centre or `pad` with black.
        max_bad: fraction of the images that may be unreadable and left out.
        seed: of the test split of data that has none; None splits nothing: such data is all test, to be judged on.

    Returns:
        Splits with uint8 images `(N, size, size, 3)`; validation is None unless the data has one. Without a seed, there
        may be nothing to train on.

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
        name, location = (str(source), Path()) if named else _located(source)
        excluded = exclusions.recall(name if named else _identity(name, location))
        options = replace(options, exclude=excluded.ids)
        loaded = named.load(options) if named else _layout(location).load_from(location, options)
        return replace(loaded, splits=replace(exclusions.without(loaded.splits, excluded), source=name))


def listing(source: str | Path, seed: int | None = 0) -> Listing | None:
    """The encoded images of the data, before anything of them is read; None where there are none, or no data set.

    What was excluded is not in it.

    Raises:
        UsageError: the source is unknown.
        DataError: too little is left after what was excluded.
        MachineError: it cannot be read.
    """
    if _named(source):
        return None
    with _explained():
        name, location = _located(source)
        try:
            whole = _layout(location).scan(location, seed)
        except DataError:
            return None  # loading says why
        if whole is None:
            return None
        return exclusions.applied(whole, exclusions.recall(_identity(name, location)).ids, location)


def identity(source: str | Path) -> str:
    """The name by which the cache knows data: of a source, its address, or the resolved path.

    Raises:
        UsageError: the source is unknown.
    """
    return str(source) if _named(source) else _identity(*_located(source))


def _identity(name: str, location: Path) -> str:
    return str(location.resolve()) if name == str(location) else name


def fetch(source: str | Path) -> Path | None:
    """Make sure that the data is here, downloading it if need be: its folder, or None where a library brings it.

    Raises:
        UsageError, DataError, DamagedFile, MachineError: as `load_dataset`.
    """
    with _explained():
        named = _named(source)
        if named:
            return named.fetch()
        _, location = _located(source)
        _layout(location)
        return location


def _named(source: str | Path) -> Source | None:
    """The source of that name; a `Path` is never a name."""
    if isinstance(source, str) and source in catalog.CATALOG["source"]:
        named: Source = catalog.load("source", source)
        return named
    return None


def _located(source: str | Path) -> tuple[str, Path]:
    """What the data is called for good, and where it is; downloaded, if it is an address."""
    for start in catalog.CATALOG["address"]:
        if isinstance(source, str) and source.startswith(start):
            fetched: tuple[str, Path] = catalog.load("address", start)(source)
            return fetched
    location = _existing(source)
    return str(location), location


def _existing(source: str | Path) -> Path:
    location = places.expanded(source).absolute()
    files.check_text(location)
    if not str(source) or not (location.exists() or (is_pattern(location) and _recognised(location))):
        known = list(catalog.CATALOG["source"])
        siblings = [entry.name for entry in location.parent.iterdir()] if source and location.parent.is_dir() else []
        near = suggestion(str(source), known) or suggestion(location.name, siblings)
        raise UsageError(
            f"data is {', '.join(known)}, hf://owner/name, or an existing folder or file; got {str(source)!r}{near}"
        )
    return location


def _layout(location: Path) -> Layout:
    layout = _recognised(location)
    if layout is None:
        what = "the file is none of the last three" if location.is_file() else "it holds none of them"
        raise DataError(
            "data is a folder of CIFAR batches, of train/ and test/ with a folder per class, or of a folder per class, "
            f"or it is .parquet, .tar or .csv files; got {location}: {what}; see `peregrine data --help`"
        )
    return layout


def _recognised(location: Path) -> Layout | None:
    """The layout of what is there; the libraries of one are loaded when it is asked."""
    layouts: Iterator[Layout] = (catalog.load("layout", key) for key in catalog.CATALOG["layout"])
    return next((layout for layout in layouts if layout.recognises(location)), None)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what the operating system refuses into the user's words."""
    try:
        yield
    except OSError as error:
        # an error without a name comes from writing, and what is written lies in the cache
        raise machine_error(error, error.filename or places.cache_folder()) from error
