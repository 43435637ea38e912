"""Data written in another format: the files themselves where there are some, else the pixels as PNG."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from peregrine import catalog, files, progress
from peregrine.data import packing, places, sources
from peregrine.data.base import Item, Listing, Options
from peregrine.dataset import Images, Splits
from peregrine.errors import CheckFailed, UsageError, machine_error, suggestion
from peregrine.preprocess import BadImage

FORMATS = ("parquet", "folder", "webdataset")
_STARTS = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}


def export(source: str | Path, to: str, destination: str | Path, options: Options) -> dict[str, Any]:
    """Write the data that `source` names into the new folder `destination`, which appears when all is in it.

    Files go there as they are, those that cannot be decoded stay behind. With `options.size`, or where the data has no
    files, the pixels go there as PNG, which loses nothing. Either way the data has the same fingerprint afterwards, at
    the same size.

    Args:
        to: `parquet`, `folder` or `webdataset`.

    Returns:
        What was written, as plain values for JSON.

    Raises:
        UsageError: there is no such format, or something is at `destination`.
        DataError, CheckFailed, MachineError: as `load_dataset`; or a class has a name that the format cannot hold.
    """
    if to not in FORMATS:
        raise UsageError(f"data is exported to {', '.join(FORMATS)}; got {to!r}{suggestion(to, FORMATS)}")
    target = places.expanded(destination).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"data is exported to a new or an empty folder; {target} is neither; name another")
    loaded = sources.load(source, options)
    splits = loaded.splits
    items = _files(loaded.listing()) if loaded.listing and options.size is None else _pixels(splits)
    counts = {name: len(part) for name, part in _parts(splits).items()}
    try:
        with (
            files.writing_folder(target) as temporary,
            progress.bar("export", sum(counts.values()), "image") as advance,
        ):
            catalog.load("layout", to).write(temporary, splits.class_names, _counted(items, advance))
    except OSError as error:
        raise machine_error(error, target) from error
    return {
        "source": splits.source,
        "format": to,
        "folder": str(target),
        "images": counts,
        "classes": list(splits.class_names),
        "left_out": len(loaded.left_out),
        "notes": list(splits.notes),
    }


def _parts(splits: Splits) -> dict[str, Any]:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def _files(listing: Listing) -> Iterator[Item]:
    labels = {name: label for label, name in enumerate(listing.class_names)}
    contents = packing.parallel(lambda read: read(), listing.contents(listing.entries), at_once=2)
    for entry in listing.entries:
        try:
            content = next(contents)
        except BadImage as bad:
            raise CheckFailed(f"{entry.id} changed while it was being read ({bad}); run again") from None
        suffix = next(suffix for start, suffix in _STARTS.items() if content.startswith(start))
        yield Item(entry.split, entry.id, labels[entry.class_name], content, suffix)


def _pixels(splits: Splits) -> Iterator[Item]:
    def png(image: Images) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(image)).save(buffer, "PNG")
        return buffer.getvalue()

    for name, part in _parts(splits).items():
        contents = packing.parallel(png, part.images)
        for id, label, content in zip(part.ids.tolist(), part.labels.tolist(), contents, strict=True):
            yield Item(name, id, label, content, ".png")


def _counted(items: Iterator[Item], advance: progress.Advance) -> Iterator[Item]:
    for item in items:
        yield item
        advance()
