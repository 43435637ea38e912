"""The store: image files decoded once and kept as one memory-mapped array.

    <cache>/store/<key>/
      images.npy    uint8 (N, size, size, 3), split after split: train, validation, test
      labels.npy    int64 (N,)
      ids.npy       str (N,)
      index.json    written last: settings, splits, what was left out, size and SHA-256 of the other files

The key is a SHA-256 over everything that decides the pixels: each file's content, name, class and split, the
preprocessing, and the version of the decoder. So a store is never stale, and the same data gives the same store,
byte for byte.
"""

import concurrent.futures
import hashlib
import itertools
import json
import logging
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL

from peregrine import files, host, progress
from peregrine.data import places
from peregrine.data.base import LeftOut
from peregrine.dataset import Dataset, Images
from peregrine.errors import CheckFailed, DamagedFile, DataError
from peregrine.preprocess import BadImage, Preprocess

SPLITS = ("train", "validation", "test")  # in the order of the store
MAX_FILE_BYTES = 256 << 20  # no photo is larger; a sparse file of a terabyte may be
_HASHED_BYTES = 1 << 30  # what is hashed at every opening takes half a second then; of more, only the size is compared
_BLOCK = 256  # images decoded ahead of the writer, which bounds the memory
_WARNINGS = 10

_log = logging.getLogger("peregrine")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ImageFile:
    """An image file with its place in the data set.

    Attributes:
        path: where it is.
        id: its path relative to the data's folder, printable.
        split: `train`, `validation` or `test`.
        class_name: its label.
    """

    path: str
    id: str
    split: str
    class_name: str


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
        parts: each split that the data has; the images are views into one read-only memory map.
        left_out: the files that could not be decoded.
    """

    parts: dict[str, Dataset]
    left_out: tuple[LeftOut, ...]


def content_key(images: Sequence[ImageFile], digests: Sequence[str], preprocess: Preprocess) -> str:
    """The key of the store that `images` with these SHA-256 `digests` belong into."""
    settings = {"schema": 1, "decoder": PIL.__version__, "preprocess": preprocess.model_dump()}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for image, digest in zip(images, digests, strict=True):
        key.update(json.dumps([image.split, image.class_name, image.id, digest]).encode())
    return key.hexdigest()[:32]


def folder_of(key: str) -> Path:
    """Where the store of a key lies, or would."""
    return places.cache_folder() / "store" / key


def read(path: str) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it cannot be read; the message says why.
    """
    try:
        info = Path(path).stat()
        if not stat.S_ISREG(info.st_mode):
            raise BadImage("not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise BadImage(f"{info.st_size:,} bytes are more than {MAX_FILE_BYTES:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise BadImage((error.strerror or str(error)).lower()) from None


def parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` on all cores, in order, a block at a time, so that results do not pile up before a slow consumer.

    Threads are enough, because Pillow and hashlib let go of the interpreter while they compute.
    """
    remaining = iter(items)
    with concurrent.futures.ThreadPoolExecutor(host.threads()) as pool:
        while block := list(itertools.islice(remaining, _BLOCK)):
            yield from pool.map(work, block)


def prepare(
    images: Sequence[ImageFile], digests: Sequence[str], preprocess: Preprocess, max_bad: float, source: Path
) -> str:
    """Decode `images` into their store, if it is not there yet or damaged, and return its key.

    `digests` are the SHA-256 of the files. `source` is what messages call the data.

    Raises:
        CheckFailed: more than the fraction `max_bad` is unreadable, or a file changed meanwhile. Nothing is kept.
        DataError: a class has no readable image left in a split.
    """
    key = content_key(images, digests, preprocess)
    target = folder_of(key)
    with places.locked(target.parent):
        if not _is_whole(target):
            with files.writing_folder(target) as temporary:
                _write(temporary, images, digests, preprocess, max_bad, source)
    return key


def open_store(key: str, max_bad: float, source: Path) -> Store | None:
    """Open a store, or None when it is not there or damaged, and has to be prepared.

    Raises:
        CheckFailed: more than the fraction `max_bad` of the images was left out when it was prepared.
    """
    folder = folder_of(key)
    if not _is_whole(folder):
        return None
    index = files.read_json(folder / "index.json")
    left_out = tuple(LeftOut(**entry) for entry in index["left_out"])
    total = index["images"] + len(left_out)
    _check_bad(left_out, total, max_bad, source)
    images: Images = np.load(folder / "images.npy", mmap_mode="r")
    labels, ids = np.load(folder / "labels.npy"), np.load(folder / "ids.npy")
    names = tuple(index["class_names"])
    parts = {
        split: Dataset(images[start:stop], labels[start:stop], ids[start:stop], names)
        for split, (start, stop) in index["splits"].items()
    }
    return Store(parts, left_out)


def _write(
    folder: Path,
    images: Sequence[ImageFile],
    digests: Sequence[str],
    preprocess: Preprocess,
    max_bad: float,
    source: Path,
) -> None:
    kept, left_out = _write_images(folder / "images.npy", images, digests, preprocess)
    for bad in left_out[:_WARNINGS]:
        _log.warning("left out %s: %s", bad.id, bad.reason)
    if len(left_out) > _WARNINGS:
        _log.warning("left out %d more; `peregrine data check %s` lists all", len(left_out) - _WARNINGS, source)
    _check_bad(left_out, len(images), max_bad, source)
    class_names = sorted({image.class_name for image in images})
    splits = {split: _span([image.split for image in kept], split) for split in SPLITS}
    _check_classes(images, kept, source)
    np.save(folder / "labels.npy", np.array([class_names.index(image.class_name) for image in kept], np.int64))
    np.save(folder / "ids.npy", np.array([image.id for image in kept]))
    index = {
        "schema": 1,
        "decoder": PIL.__version__,
        "preprocess": preprocess.model_dump(),
        "class_names": class_names,
        "images": len(kept),
        "splits": {split: span for split, span in splits.items() if span[1] > span[0]},
        "left_out": [asdict(bad) for bad in left_out],
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name)}
            for name in ("images.npy", "labels.npy", "ids.npy")
        },
    }
    files.write_json(folder / "index.json", index)


def _write_images(
    path: Path, images: Sequence[ImageFile], digests: Sequence[str], preprocess: Preprocess
) -> tuple[list[ImageFile], list[LeftOut]]:
    """Append the decodable images to one `.npy`, in order; what was kept, and what was left out.

    Written, not memory-mapped: a full disk is an error for a write and the end of the process for a map.
    """

    def decode(item: tuple[ImageFile, str]) -> Images | BadImage:
        image, digest = item
        try:
            content = read(image.path)
            if hashlib.sha256(content).hexdigest() != digest:
                raise CheckFailed(f"{image.path} changed while it was being read; wait until nothing writes, run again")
            return preprocess(content)
        except BadImage as bad:
            return bad

    kept: list[ImageFile] = []
    left_out: list[LeftOut] = []
    with path.open("wb") as file, progress.bar("prepare images", len(images), "image") as advance:
        _write_header(file, len(images), preprocess.size)
        for image, decoded in zip(images, parallel(decode, zip(images, digests, strict=True)), strict=True):
            if isinstance(decoded, BadImage):
                left_out.append(LeftOut(image.id, str(decoded)))
            else:
                file.write(np.ascontiguousarray(decoded).data)
                kept.append(image)
            advance()
        file.seek(0)
        _write_header(file, len(kept), preprocess.size)
    return kept, left_out


def _write_header(file: Any, count: int, size: int) -> None:
    """The `.npy` header, which has the same length for every `count`: NumPy leaves room for the first axis to grow."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def _span(splits: list[str], split: str) -> list[int]:
    """First and one past the last index of `split` in a list where each split is one stretch."""
    count = splits.count(split)
    start = splits.index(split) if count else 0
    return [start, start + count]


def _check_bad(left_out: Sequence[LeftOut], total: int, max_bad: float, source: Path) -> None:
    if len(left_out) > max_bad * total:
        first = "; ".join(f"{bad.id} ({bad.reason})" for bad in left_out[:3])
        more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        raise CheckFailed(
            f"at most {max_bad:.1%} of the images may be unreadable; in {source} it is {len(left_out)} of {total}: "
            f"{first}{more}; repair or remove them, or raise --max-bad"
        )


def _check_classes(images: Sequence[ImageFile], kept: Sequence[ImageFile], source: Path) -> None:
    wanted = {(image.split, image.class_name) for image in images}
    lost = sorted(wanted - {(image.split, image.class_name) for image in kept})
    if lost:
        split, name = lost[0]
        raise DataError(
            f"every class has a readable image in every split; in {source} none of class {name!r} in {split} "
            "can be read; repair or replace its images"
        )


def _is_whole(folder: Path) -> bool:
    """Whether a store is there with every file as its index says; a damaged one is reported and prepared again."""
    if not (folder / "index.json").exists():
        return False
    try:
        for name, expected in files.read_json(folder / "index.json")["files"].items():
            size = (folder / name).stat().st_size
            if size != expected["bytes"]:
                raise DamagedFile(f"{name} has {size:,} bytes, not {expected['bytes']:,}")
            if size <= _HASHED_BYTES and files.sha256(folder / name) != expected["sha256"]:
                raise DamagedFile(f"{name} has another SHA-256")
    except (DamagedFile, OSError, KeyError, TypeError, AttributeError) as error:
        _log.warning("the prepared images in %s are damaged (%s); preparing them again", folder, error)
        return False
    return True
