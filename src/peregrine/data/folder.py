"""Image folders: a folder per class, or `train/` and `test/` (and `val/` or `validation/`) of such folders.

Decoded once into the store, which is keyed by content. To open it again, no image is read: as git does it, that nothing
changed is seen by the names, sizes, times and inodes of all files. In doubt the content is read.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files, progress
from peregrine.data import places, store
from peregrine.data.base import Loaded, Options
from peregrine.data.store import ImageFile
from peregrine.dataset import Splits, stratified_split
from peregrine.errors import DamagedFile, DataError
from peregrine.preprocess import SUFFIXES, BadImage, Preprocess, dimensions

_TEST_FRACTION = 0.2
_SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_OWN_SIZES = range(8, 513)  # sides that a recipe accepts
_DERIVED_SIZES = (32, 128)
_SETTLED_S = 2.0  # the coarsest clock of a file system (FAT)


def recognises(location: Path) -> bool:
    """Whether `location` is a folder with folders in it."""
    return location.is_dir() and bool(_subfolders(location))


def load_from(location: Path, options: Options) -> Loaded:
    """Open the prepared images of a folder, preparing them first if need be; see `Layout`.

    The ids are the files' paths relative to the folder, the classes are in alphabetical order. Without a `test/`, a
    stratified 20% drawn with `options.seed` is the test split.

    Raises:
        DataError: fewer than two classes, an empty one, classes that differ between splits, or a name that cannot be
            shown.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    folder = location.resolve()
    started = time.time()
    images, notes = scan(folder, options.seed)
    images = [image for image in images if image.id not in options.exclude]
    stamp, newest = _stamp(images)
    memory = _memory_of(folder, options)
    seen = _recall(memory, stamp)
    opened = store.open_store(seen["key"], options.max_bad, folder) if seen else None
    if not (seen and opened):
        seen = _prepare(images, folder, options) | {"schema": 1, "stamp": stamp}
        opened = store.open_store(seen["key"], options.max_bad, folder)
        if opened is None:
            raise DamagedFile(f"{store.folder_of(seen['key'])} changed right after it was written; run again")
        if newest < started - _SETTLED_S:  # else a later change could carry the same time and stay unseen
            files.write_json(memory, seen)
    notes += seen["notes"]
    if opened.left_out:
        notes.append(f"{len(opened.left_out)} of {len(images)} images could not be read and were left out")
    parts = opened.parts
    return Loaded(Splits(parts["train"], parts.get("validation"), parts["test"], notes=tuple(notes)), opened.left_out)


def scan(folder: Path, seed: int) -> tuple[list[ImageFile], list[str]]:
    """All image files below `folder`, split after split, class after class, by name; and notes for the user.

    Files with other suffixes, and hidden files and folders, are passed over.

    Raises:
        DataError: as `load_from`.
    """
    parts = {part.name: part for part in _subfolders(folder)}
    present = [name for name in _SPLIT_FOLDERS if name in parts]
    if not {"train", "test"} <= parts.keys():
        if present and all(_subfolders(parts[name]) for name in present):
            raise DataError(
                f"a folder with splits has both train/ and test/; {folder} has only {', '.join(present)}; "
                "add the other, or give the folder of the classes itself, which is then split"
            )
        note = (
            f"the folder has no test/, so {_TEST_FRACTION:.0%} of each class, drawn with seed {seed}, is the test split"
        )
        return _split(_class_images(folder, folder, "train"), seed), [note]
    if {"val", "validation"} <= parts.keys():
        raise DataError(f"the validation split is val/ or validation/; {folder} has both; merge or remove one")
    images = [image for name in present for image in _class_images(folder, parts[name], _SPLIT_FOLDERS[name])]
    _check_same_classes(images, folder)
    others = ", ".join(_printable(name) for name in parts if name not in present)
    return images, [f"folders beside the splits were passed over: {others}"] if others else []


def _class_images(root: Path, parent: Path, split: str) -> list[ImageFile]:
    classes = _subfolders(parent)
    if len(classes) < 2:
        found = f"only {classes[0].name!r}" if classes else "none"
        raise DataError(f"a classifier needs two class folders or more; {parent} has {found}; add a class")
    images = []
    for folder in classes:
        if not folder.name.isprintable():  # undecodable bytes are not printable either
            raise DataError(f"a class name is printable UTF-8 on one line; got {folder.name!r}; rename the folder")
        paths = sorted(_image_paths(folder))
        if not paths:
            raise DataError(
                f"a class folder holds at least one image ({', '.join(SUFFIXES)}); {folder} holds none; "
                "add images or remove the folder"
            )
        prefix = f"{root}{os.sep}"
        images += [ImageFile(path, _printable(path.removeprefix(prefix)), split, folder.name) for path in paths]
    return images


def _split(images: list[ImageFile], seed: int) -> list[ImageFile]:
    """Give a stratified part of the images to the test split."""
    names, labels, counts = np.unique([image.class_name for image in images], return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise DataError(
            f"a class that is split into train and test has two images or more; class {str(names[counts.argmin()])!r} "
            "has one; add images, or make train/ and test/ by hand"
        )
    train, test = stratified_split(labels.astype(np.int64), _TEST_FRACTION, seed)
    return [images[index] for index in train] + [replace(images[index], split="test") for index in test]


def _check_same_classes(images: Sequence[ImageFile], folder: Path) -> None:
    classes: dict[str, set[str]] = {}
    for image in images:
        classes.setdefault(image.split, set()).add(image.class_name)
    for split, names in classes.items():
        if odd := sorted(names ^ classes["train"]):
            here, missing = (split, "train") if odd[0] in names else ("train", split)
            raise DataError(
                f"every split has the same classes; in {folder} class {odd[0]!r} is in {here} and not in {missing}; "
                "make the folders agree"
            )


def _prepare(images: Sequence[ImageFile], folder: Path, options: Options) -> dict[str, Any]:
    """Prepare the store: its key, and the notes on how it was made."""
    digests, shapes = _inspect(images, measure=options.size is None)
    size, notes = (options.size, []) if options.size else _own_size(shapes)
    preprocess = Preprocess(size=size, resize=options.resize)
    key = store.prepare(images, digests, preprocess, options.max_bad, folder)
    return {"key": key, "notes": notes}


def _inspect(images: Sequence[ImageFile], measure: bool) -> tuple[list[str], list[tuple[int, int]]]:
    """Each file's SHA-256, or why it has none, and the shapes of those that have one."""

    def look(image: ImageFile) -> tuple[str, tuple[int, int] | None]:
        try:
            content = store.read(image.path)
        except BadImage as bad:
            return f"unreadable: {bad}", None
        try:
            shape = dimensions(content) if measure else None
        except BadImage:
            shape = None  # the reason is told when it is decoded
        return hashlib.sha256(content).hexdigest(), shape

    digests, shapes = [], []
    with progress.bar("read images", len(images), "image") as advance:
        for digest, shape in store.parallel(look, images):
            digests.append(digest)
            if shape:
                shapes.append(shape)
            advance()
    return digests, shapes


def _own_size(shapes: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
    """The side that images of these shapes have or suggest, and a note if it had to be derived."""
    sides = {side for shape in shapes for side in shape}
    if len(sides) == 1 and (side := sides.pop()) in _OWN_SIZES:
        return side, []
    low, high = _DERIVED_SIZES
    median = statistics.median(min(shape) for shape in shapes) if shapes else low
    size = min(max(8 * round(median / 8), low), high)
    return size, [f"the images are prepared at {size}×{size}, from a median shorter side of {median:g} pixels"]


def _stamp(images: Sequence[ImageFile]) -> tuple[str, float]:
    """A hash over the names and the states of all files, and the newest change in seconds since the epoch."""
    digest = hashlib.sha256()
    newest = 0
    for image in images:
        try:
            state = os.stat(image.path)  # noqa: PTH116  as in `_image_paths`
        except OSError:
            digest.update(f"{image.split}\0{image.id}\0absent\n".encode())
            continue
        newest = max(newest, state.st_ctime_ns)
        fields = (
            image.split,
            image.id,
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
            state.st_ino,
            state.st_dev,
        )
        digest.update(("\0".join(map(str, fields)) + "\n").encode())
    return digest.hexdigest(), newest / 1e9


def _memory_of(folder: Path, options: Options) -> Path:
    """The file that remembers which store a folder was prepared into, and the stamp it had."""
    name = hashlib.sha256(os.fsencode(f"{folder}\0{options.size}\0{options.resize}")).hexdigest()[:32]
    return places.cache_folder() / "store" / "seen" / f"{name}.json"


def _recall(memory: Path, stamp: str) -> dict[str, Any] | None:
    try:
        seen = files.read_json(memory)
    except (DamagedFile, FileNotFoundError):
        return None
    return seen if isinstance(seen, dict) and seen.get("schema") == 1 and seen.get("stamp") == stamp else None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_paths(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)  # noqa: PTH118  a Path for each of a million files costs seconds


def _raise(error: OSError) -> None:
    raise error


def _printable(name: str) -> str:
    """A name that can be shown on one line: what is not printable, or no valid UTF-8, is escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()
