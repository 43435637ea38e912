"""What is wrong with a data set, before anything is trained on it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from peregrine.data import sources
from peregrine.data.base import LeftOut, Options
from peregrine.dataset import Dataset, ImageArray, Splits

_IMBALANCE = 10  # largest class over smallest, from where training notices

_ALL = Options(max_bad=1.0)

Level = Literal["error", "warning"]
Place = tuple[str, int]  # a split, and an index in it


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: its name: `unreadable`, `leakage`, `conflict`, `duplicate`, `missing-class`, `imbalance` or `blank`.
        level: `error` makes scores untrustworthy; `warning` is worth a look.
        message: what was found, and what to do.
        ids: the images or classes concerned.
    """

    rule: str
    level: Level
    message: str
    ids: tuple[str, ...]


def check(source: str | Path, options: Options = _ALL) -> list[Finding]:
    """Examine the data that `source` names, errors first; an empty list means that nothing was found.

    By default every unreadable image becomes part of a finding, however many there are.

    Raises:
        UsageError, DataError, DamagedFile, MachineError: the data cannot be loaded at all; see `load_dataset`.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    loaded = sources.load(source, options)
    splits = loaded.splits
    findings = [*_unreadable(loaded.left_out), *_copies(splits), *_classes(splits), *_blank(splits)]
    return sorted(findings, key=lambda finding: finding.level)


def _unreadable(left_out: tuple[LeftOut, ...]) -> Iterator[Finding]:
    if left_out:
        ids = tuple(f"{bad.id}: {bad.reason}" for bad in left_out)
        yield Finding("unreadable", "error", f"{_images(len(ids))} cannot be read; repair or remove them", ids)


def _copies(splits: Splits) -> Iterator[Finding]:
    """Images with the same pixels: across splits, with different labels, or merely twice."""
    places: dict[bytes, list[Place]] = defaultdict(list)
    for name, part in _parts(splits):
        for index, image in enumerate(part.images):
            places[hashlib.sha256(image.tobytes()).digest()].append((name, index))
    groups = [group for group in places.values() if len(group) > 1]
    parts = dict(_parts(splits))
    across = [group for group in groups if len({name for name, _ in group}) > 1]
    conflicting = [group for group in groups if len({parts[name].labels[index] for name, index in group}) > 1]
    within = [group for group in groups if len({name for name, _ in group}) == 1]
    levels: tuple[tuple[str, Level, list[list[Place]], str], ...] = (
        ("leakage", "error", across, "in another split, which makes scores too good; keep each in one"),
        ("conflict", "error", conflicting, "with different labels; correct or remove them"),
        ("duplicate", "warning", within, "in the same split; keep one of each"),
    )
    for rule, level, found, what in levels:
        if found:
            ids = tuple(" = ".join(_named(parts, place) for place in group) for group in found)
            have = "has" if len(found) == 1 else "have"
            yield Finding(rule, level, f"{_images(len(found))} {have} copies {what}", ids)


def _classes(splits: Splits) -> Iterator[Finding]:
    for name, part in _parts(splits):
        counts, names = part.counts, np.array(part.class_names)
        if missing := tuple(names[counts == 0].tolist()):
            yield Finding(
                "missing-class",
                "error",
                f"{name} has no image of {len(missing)} of {len(names)} classes; add some",
                missing,
            )
        present = counts[counts > 0]
        if len(present) and present.max() >= _IMBALANCE * present.min():
            few = tuple(names[counts == present.min()].tolist())
            yield Finding(
                "imbalance",
                "warning",
                f"in {name} the largest class has {present.max()} images and the smallest {present.min()}; "
                'add images, or set class_weights = "balanced"',
                few,
            )


def _blank(splits: Splits) -> Iterator[Finding]:
    ids = tuple(str(part.ids[index]) for _, part in _parts(splits) for index in np.flatnonzero(_is_blank(part.images)))
    if ids:
        yield Finding("blank", "warning", f"{_images(len(ids))} have one colour only; look whether they are meant", ids)


def _is_blank(images: ImageArray) -> npt.NDArray[np.bool_]:
    """Which images, uint8 `(N, H, W, 3)`, have the same colour everywhere: bool `(N,)`. In blocks, to save memory."""
    found = [
        (block == block[:, :1, :1]).all((1, 2, 3))
        for block in (images[start : start + 4096] for start in range(0, len(images), 4096))
    ]
    return np.concatenate(found) if found else np.empty(0, np.bool_)


def _parts(splits: Splits) -> list[tuple[str, Dataset]]:
    named = (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
    return [(name, part) for name, part in named if part is not None]


def _named(parts: dict[str, Dataset], place: Place) -> str:
    name, index = place
    part = parts[name]
    return f"{part.ids[index]} ({part.class_names[part.labels[index]]})"


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
