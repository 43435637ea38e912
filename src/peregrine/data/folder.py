"""Image folders: a folder per class, or one for each split, `train/`, `val/`, `test/`, of such folders."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from peregrine.data import image_files, preparing
from peregrine.data.base import Entry, Item, Listing, Loaded, Options
from peregrine.data.shards import holds_images, shards, subfolders
from peregrine.data.splitting import SPLITS, WORDS, arranged, check, check_class_name, printable
from peregrine.errors import DataError
from peregrine.preprocess import SUFFIXES


def recognises(location: Path) -> bool:
    """Whether `location` is a folder with folders in it, of images or at least not of shards."""
    if not location.is_dir() or not subfolders(location):
        return False
    return holds_images(location) or not (shards(location, ".parquet") or shards(location, ".tar"))


def load_from(location: Path, options: Options) -> Loaded:
    """The images of a folder, prepared; see `Layout`.

    The ids are the files' paths relative to the folder, the classes are in alphabetical order. Without folders of
    splits, a stratified 20% drawn with `options.seed` is the test split; without a seed, all of it is.

    Raises:
        DataError: fewer than two classes, an empty one, classes that differ between splits, or a name that cannot be
            shown.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    folder = location.resolve()
    listing = scan(folder, options.seed)
    paths = [entry.place for entry in listing.entries]
    return preparing.load(preparing.Place(folder, options, paths, lambda: listing))


def scan(folder: Path, seed: int | None) -> Listing:
    """All image files below `folder`, split after split, class after class, by name.

    Files with other suffixes, and hidden files and folders, are passed over.

    Raises:
        DataError: as `load_from`.
    """
    parts = _split_folders(folder)
    if parts:
        found = [entry for split, part in parts.items() for entry in _class_images(folder, part, split)]
    else:
        found = _class_images(folder, folder, "train")
    entries, notes = arranged(found, seed, folder)
    class_names = tuple(sorted({entry.class_name for entry in entries}))
    check(entries, class_names, folder)
    others = ", ".join(printable(other.name) for other in subfolders(folder) if other not in parts.values())
    if parts and others:
        notes.append(f"folders beside the splits were passed over: {others}")
    return Listing(entries, class_names, image_files.contents(folder), tuple(notes))


def write(folder: Path, class_names: tuple[str, ...], items: Iterable[Item]) -> None:
    """Write `train/`, `test/` and, where there is one, `validation/`, with a folder per class.

    Raises:
        DataError: a class has a name that cannot be that of a folder.
    """
    for name in class_names:
        if name.startswith(".") or "/" in name or "\\" in name:
            raise DataError(f"the name of a folder has no slash and does not begin with a dot; got class {name!r}")
        for split in SPLITS:
            (folder / split / name).mkdir(parents=True)
    used = set()
    for number, item in enumerate(items):
        path = folder / item.split / class_names[item.label] / f"{number:08d}{item.suffix}"
        path.write_bytes(item.content)
        used.add(item.split)
    for split in set(SPLITS) - used:
        for name in class_names:
            (folder / split / name).rmdir()
        (folder / split).rmdir()


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split; none where the folders are those of classes."""
    named = [(WORDS[part.name.lower()], part) for part in subfolders(folder) if part.name.lower() in WORDS]
    parts = dict(named)
    if not ("train" in parts and len(parts) > 1):
        if named and all(subfolders(part) for _, part in named):
            raise DataError(
                f"a folder with splits has both train/ and test/; {folder} has only "
                f"{', '.join(part.name for _, part in named)}; add the other, or give the folder of the classes "
                "itself, which is then split"
            )
        return {}
    for split, part in named:
        if parts[split] != part:
            raise DataError(
                f"a split has one folder; {folder} has {part.name} and {parts[split].name} for {split}; merge or "
                "remove one"
            )
    return {split: parts[split] for split in SPLITS if split in parts}


def _class_images(root: Path, parent: Path, split: str) -> list[Entry]:
    classes = subfolders(parent)
    if len(classes) < 2:
        found = f"only {classes[0].name!r}" if classes else "none"
        raise DataError(f"a classifier needs two class folders or more; {parent} has {found}; add a class")
    images = []
    for folder in classes:
        check_class_name(folder.name)
        paths = sorted(_image_paths(folder))
        if not paths:
            raise DataError(
                f"a class folder holds at least one image ({', '.join(SUFFIXES)}); {folder} holds none; "
                "add images or remove the folder"
            )
        prefix = f"{root}{os.sep}"
        images += [Entry(printable(path.removeprefix(prefix)), split, folder.name, path) for path in paths]
    return images


def _image_paths(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)  # noqa: PTH118  a Path for each of a million files costs seconds


def _raise(error: OSError) -> None:
    raise error
