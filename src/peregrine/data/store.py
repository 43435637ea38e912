"""The store: images decoded once and kept as one memory-mapped array.

    <cache>/store/<key>/
      images.npy      uint8 (N, size, size, 3), split after split: train, validation, test
      index.parquet   id, split, label, SHA-256, width and height of the file that each image comes from
      store.json      written last: settings, classes, splits, what was left out, size and SHA-256 of the other files

The key is a SHA-256 over everything that decides the pixels: each file's content, name, class and split, the
preprocessing, and the version of the decoder. So a store is never stale, and the same data gives the same store,
byte for byte.
"""

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import pyarrow
import pyarrow.parquet

from peregrine import files
from peregrine.data import places
from peregrine.data.base import LeftOut, Listing
from peregrine.data.splitting import SPLITS
from peregrine.dataset import Dataset, Images
from peregrine.errors import CheckFailed, DamagedFile, DataError
from peregrine.preprocess import Preprocess

SCHEMA = 2
IMAGES, INDEX, SETTINGS = "images.npy", "index.parquet", "store.json"
_HASHED_BYTES = 1 << 30  # what is hashed at every opening takes half a second then; of more, only the size is compared

_log = logging.getLogger("peregrine")


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one image.

    Attributes:
        digest: SHA-256 of its file in hex, or why the file cannot be read.
        width, height: of the image in pixels, upright; 0 where it could not be decoded.
        reason: why it was left out; empty where it was not.
    """

    digest: str
    width: int
    height: int
    reason: str = ""


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
        parts: each split that the data has; the images are views into one read-only memory map.
        left_out: the files that could not be decoded.
        sizes: int32 `(N, 2)`, width and height of each image before it was resized.
    """

    parts: dict[str, Dataset]
    left_out: tuple[LeftOut, ...]
    sizes: npt.NDArray[np.int32]


def content_key(listing: Listing, digests: Sequence[str], preprocess: Preprocess) -> str:
    """The key of the store of a listing whose files have these digests; see `Row.digest`."""
    settings = {
        "schema": SCHEMA,
        "decoder": PIL.__version__,
        "preprocess": preprocess.model_dump(),
        "class_names": listing.class_names,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for entry, digest in zip(listing.entries, digests, strict=True):
        key.update(json.dumps([entry.split, entry.class_name, entry.id, digest]).encode())
    return key.hexdigest()[:32]


def folder_of(key: str) -> Path:
    """Where the store of a key lies, or would."""
    return places.cache_folder() / "store" / key


def head(count: int, size: int) -> bytes:
    """The head of `images.npy`, which has the same length for every `count`: NumPy leaves room for the axis to grow."""
    head = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(head, described)
    return head.getvalue()


def finish(folder: Path, listing: Listing, rows: Sequence[Row], preprocess: Preprocess, sha256: str) -> str:
    """Make a store of a folder in which `images.npy` holds the pixels of every row without a reason; gives its key.

    Args:
        sha256: of `images.npy` with a head that counts all rows.
    """
    kept = [(entry, row) for entry, row in zip(listing.entries, rows, strict=True) if not row.reason]
    with (folder / IMAGES).open("r+b") as file:
        file.write(head(len(kept), preprocess.size))
    digests = {IMAGES: sha256 if len(kept) == len(rows) else files.sha256(folder / IMAGES)}
    labels = {name: label for label, name in enumerate(listing.class_names)}
    table = pyarrow.table(
        {
            "id": pyarrow.array([entry.id for entry, _ in kept], pyarrow.string()),
            "split": pyarrow.array([entry.split for entry, _ in kept], pyarrow.string()),
            "label": pyarrow.array([labels[entry.class_name] for entry, _ in kept], pyarrow.int64()),
            "sha256": pyarrow.array([row.digest for _, row in kept], pyarrow.string()),
            "width": pyarrow.array([row.width for _, row in kept], pyarrow.int32()),
            "height": pyarrow.array([row.height for _, row in kept], pyarrow.int32()),
        }
    )
    pyarrow.parquet.write_table(table, folder / INDEX)
    digests[INDEX] = files.sha256(folder / INDEX)
    splits = {split: _span([entry.split for entry, _ in kept], split) for split in SPLITS}
    settings = {
        "schema": SCHEMA,
        "decoder": PIL.__version__,
        "preprocess": preprocess.model_dump(),
        "class_names": listing.class_names,
        "images": len(kept),
        "splits": {split: span for split, span in splits.items() if span[1] > span[0]},
        "left_out": [
            {"id": entry.id, "reason": row.reason}
            for entry, row in zip(listing.entries, rows, strict=True)
            if row.reason
        ],
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest} for name, digest in digests.items()
        },
    }
    files.write_json(folder / SETTINGS, settings)
    return content_key(listing, [row.digest for row in rows], preprocess)


def keep(finished: Path, key: str) -> None:
    """Move a finished store to its place; where a whole one is already, it is the same, and stays."""
    target = folder_of(key)
    with places.locked(target.parent):
        if not is_whole(target):
            files.move_folder(finished, target)


def open_store(key: str, max_bad: float, source: Path, written: bool = False) -> Store | None:
    """Open a store, or None when it is not there or damaged, and has to be prepared.

    Args:
        written: it was written a moment ago, and is not looked through again.

    Raises:
        CheckFailed: more than the fraction `max_bad` of the images was left out when it was prepared.
    """
    folder = folder_of(key)
    if not (written or is_whole(folder)):
        return None
    settings = files.read_json(folder / SETTINGS)
    left_out = tuple(LeftOut(**entry) for entry in settings["left_out"])
    check_bad(left_out, settings["images"] + len(left_out), max_bad, source)
    images: Images = np.load(folder / IMAGES, mmap_mode="r")
    index = pyarrow.parquet.read_table(folder / INDEX, columns=["id", "label", "width", "height"])
    ids = np.array(index["id"].to_pylist(), np.str_)
    labels = index["label"].to_numpy()
    names = tuple(settings["class_names"])
    parts = {
        split: Dataset(images[start:stop], labels[start:stop], ids[start:stop], names)
        for split, (start, stop) in settings["splits"].items()
    }
    return Store(parts, left_out, np.stack([index["width"].to_numpy(), index["height"].to_numpy()], axis=1))


def check_bad(left_out: Sequence[LeftOut], total: int, max_bad: float, source: Path) -> None:
    """Refuse data of which too much is unreadable.

    Raises:
        CheckFailed: it is more than the fraction `max_bad` of `total`.
    """
    if len(left_out) > max_bad * total:
        first = "; ".join(f"{bad.id} ({bad.reason})" for bad in left_out[:3])
        more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        raise CheckFailed(
            f"at most {max_bad:.1%} of the images may be unreadable; in {source} it is {len(left_out)} of {total}: "
            f"{first}{more}; repair or remove them, or raise --max-bad"
        )


def check_classes(listing: Listing, rows: Sequence[Row], source: Path) -> None:
    """Refuse data in which a class has nothing left.

    Raises:
        DataError: none of the images of a class in a split could be decoded.
    """
    kept = {(entry.split, entry.class_name) for entry, row in zip(listing.entries, rows, strict=True) if not row.reason}
    lost = sorted({(entry.split, entry.class_name) for entry in listing.entries} - kept)
    if lost:
        split, name = lost[0]
        raise DataError(
            f"every class has a readable image in every split; in {source} none of class {name!r} in {split} "
            "can be read; repair or replace its images"
        )


def _span(splits: list[str], split: str) -> list[int]:
    """First and one past the last index of `split` in a list where each split is one stretch."""
    count = splits.count(split)
    start = splits.index(split) if count else 0
    return [start, start + count]


def is_whole(folder: Path) -> bool:
    """Whether a store is there with every file as its settings say; a damaged one is reported and prepared again."""
    if not (folder / SETTINGS).exists():
        return False
    try:
        for name, expected in files.read_json(folder / SETTINGS)["files"].items():
            size = (folder / name).stat().st_size
            if size != expected["bytes"]:
                raise DamagedFile(f"{name} has {size:,} bytes, not {expected['bytes']:,}")
            if size <= _HASHED_BYTES and files.sha256(folder / name) != expected["sha256"]:
                raise DamagedFile(f"{name} has another SHA-256")
    except (DamagedFile, OSError, KeyError, TypeError, AttributeError) as error:
        _log.warning("the prepared images in %s are damaged (%s); preparing them again", folder, error)
        return False
    return True
