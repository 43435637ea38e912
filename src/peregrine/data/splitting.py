"""Which image is in which split, where files tell it by their names or not at all; and what is true of any data set."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from peregrine.data.base import Entry
from peregrine.dataset import stratified_split
from peregrine.errors import DataError

SPLITS = ("train", "validation", "test")  # in the order of every store
TEST_FRACTION = 0.2
LONGEST_NAME = 1024  # characters: an array of names gives each of them the room of the longest
# the words by which the Hugging Face hub knows splits
WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def split_of(name: PurePath) -> str | None:
    """The split in a relative path, the last part first: `train-00000-of-00002.parquet`, `test/0000.parquet`."""
    for part in (name.stem, *reversed(name.parts[:-1])):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in WORDS:
                return WORDS[word]
    return None


def splits_of(names: Sequence[PurePath], location: PurePath) -> list[str]:
    """The split of each shard; where no name tells one, all are `train`.

    Raises:
        DataError: some names tell a split and others do not, or the shards are of several data sets.
    """
    told = [split_of(name) for name in names]
    folders = sorted(
        {str(PurePath(*(part for part in name.parts[:-1] if not split_of(PurePath(part))))) for name in names}
    )
    if len(folders) > 1:
        raise DataError(
            f"shards of one data set lie in one folder, or in one for each split; {location} has some in "
            f"{', '.join(folders)}; name one of these"
        )
    silent = [name for name, split in zip(names, told, strict=True) if split is None]
    if silent and len(silent) < len(names):
        raise DataError(
            f"the names of all shards tell a split, as train-00000-of-00002 does, or none does; in {location} "
            f"{str(silent[0])!r} tells none; rename or remove it"
        )
    return [split or "train" for split in told]


def arranged(entries: Sequence[Entry], seed: int | None, location: PurePath) -> tuple[list[Entry], list[str]]:
    """The entries split after split, with a test split in any case, and notes on how that came about.

    Args:
        seed: of the test split of entries that tell no split; None makes all of them that, and asks for no other.

    Raises:
        DataError: there is nothing to train on, or too little to hold some out, or a class name cannot be shown.
    """
    for name in sorted({entry.class_name for entry in entries}):
        check_class_name(name)
    present = {entry.split for entry in entries}
    if not present or ("train" not in present and seed is not None):
        found = f"only {', '.join(sorted(present))}" if present else "no image"
        raise DataError(f"data has a training split; {location} has {found}; add or rename one")
    notes = []
    if present == {"train"}:
        if seed is None:
            entries = [replace(entry, split="test") for entry in entries]
            notes.append("the data has no splits, so all of it is the test split")
        else:
            entries = _with_test(entries, seed)
            notes.append(
                f"the data has no test split, so {TEST_FRACTION:.0%} of each class, drawn with seed {seed}, is that"
            )
    elif "test" not in present:
        entries = [replace(entry, split="test") if entry.split == "validation" else entry for entry in entries]
        notes.append("the data has no test split, so its validation split is the test split")
    return sorted(entries, key=lambda entry: SPLITS.index(entry.split)), notes


def check(entries: Sequence[Entry], class_names: Sequence[str], location: PurePath) -> None:
    """Refuse what no classifier can be trained on.

    Raises:
        DataError: fewer than two classes, a class that one split lacks, a class name that cannot be shown, or a name
            that two images have, or that is longer than `LONGEST_NAME`.
    """
    if len(class_names) < 2:
        found = f"only {class_names[0]!r}" if class_names else "none"
        raise DataError(f"a classifier needs two classes or more; {location} has {found}; add a class")
    for name in class_names:
        check_class_name(name)
    if len(set(class_names)) < len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise DataError(f"class names differ from each other; {location} has {twice!r} twice; rename one")
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise DataError(f"every image has a name of its own; in {location} {entry.id!r} comes twice; rename one")
        seen.add(entry.id)
    longest = max((entry.id for entry in entries), key=len)
    if len(longest) > LONGEST_NAME:
        raise DataError(
            f"an image's name has at most {LONGEST_NAME:,} characters; in {location} one has {len(longest):,}: "
            f"{longest[:60]}…; rename it"
        )
    held = {(entry.split, entry.class_name) for entry in entries}
    splits = [split for split in SPLITS if any(split == other for other, _ in held)]
    for name in class_names:
        with_it = [split for split in splits if (split, name) in held]
        if not with_it:
            raise DataError(f"every class has an image; in {location} class {name!r} has none; add some or remove it")
        for split in splits:
            if split not in with_it:
                raise DataError(
                    f"every split has the same classes; in {location} class {name!r} is in {with_it[0]} and not in "
                    f"{split}; make the splits agree"
                )


def check_class_name(name: str) -> None:
    """Refuse a name that cannot be shown on one line; bytes that are no UTF-8 are not printable either.

    Raises:
        DataError: it is empty, holds such characters, or is longer than `LONGEST_NAME`.
    """
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"a class name has at most {LONGEST_NAME:,} characters; got one of {len(name):,}: "
            f"{printable(name[:60])}…; rename the class"
        )
    if not name or not name.isprintable():
        raise DataError(f"a class name is printable UTF-8 on one line; got {name!r}; rename the class")


def printable(name: str) -> str:
    """A name that can be shown on one line: what is not printable, or no valid UTF-8, is escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _with_test(entries: Sequence[Entry], seed: int) -> list[Entry]:
    """Give a stratified part of the entries to the test split, the same one in whatever order they come."""
    order = sorted(range(len(entries)), key=lambda index: (entries[index].class_name, entries[index].id))
    names, labels, counts = np.unique(
        [entries[index].class_name for index in order], return_inverse=True, return_counts=True
    )
    if counts.min() < 2:
        raise DataError(
            f"a class that is split into train and test has two images or more; class {str(names[counts.argmin()])!r} "
            "has one; add images, or make a test split by hand"
        )
    _, test = stratified_split(labels.astype(np.int64), TEST_FRACTION, seed)
    chosen = {order[index] for index in test}
    return [replace(entry, split="test") if index in chosen else entry for index, entry in enumerate(entries)]
