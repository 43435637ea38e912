"""From a listing of encoded images to splits in the store, decoded once.

To open prepared data again, no image is read: as git does it, that nothing changed is seen by the names, sizes, times
and inodes of all files. In doubt the content is read.

    <cache>/store/
      <key>/          a finished store
      seen/<name>.json    which store a place was prepared into, and the state that its files had; <name>.lock
      work/<name>/    what is being prepared: plan.json and the files of `packing`; may be deleted
"""

import hashlib
import logging
import os
import shutil
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL

from peregrine import files, progress
from peregrine.data import exclusions, packing, places, store
from peregrine.data.base import Entry, LeftOut, Listing, Loaded, Options, Read
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, DamagedFile
from peregrine.preprocess import BadImage, Preprocess, dimensions

_OWN_SIZES = range(8, 513)  # sides that a recipe accepts
_DERIVED_SIZES = (32, 128)
_MEASURED = 4096  # images that the size is derived from
_SETTLED_S = 2.0  # the coarsest clock of a file system (FAT)
_WARNINGS = 10
_PLAN = "plan.json"

_log = logging.getLogger("peregrine")


@dataclass(frozen=True)
class Place:
    """Data at a path, which may have been prepared before.

    Attributes:
        location: what messages call the data.
        options: how it is wanted.
        paths: every file whose state decides the content.
        scan: makes the listing; called where the states alone do not suffice.
    """

    location: Path
    options: Options
    paths: Sequence[str]
    scan: Callable[[], Listing]

    @property
    def memory(self) -> Path:
        """The file that remembers which store the data was prepared into."""
        return self._memory_of(self.options.size)

    @property
    def memories(self) -> tuple[Path, ...]:
        """The files that may know a store of this size: also the one of data that was asked for at its own size."""
        return (self.memory,) if self.options.size is None else (self.memory, self._memory_of(None))

    def _memory_of(self, size: int | None) -> Path:
        excluded = "".join(f"\0{id}" for id in sorted(self.options.exclude))
        wanted = f"{self.location}\0{size}\0{self.options.resize}\0{self.options.seed}{excluded}"
        name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:32]
        return places.cache_folder() / "store" / "seen" / f"{name}.json"

    def listing(self) -> Listing:
        """What is to be prepared: all but what was excluded.

        Raises:
            DataError: too little is left; the data may have changed since images of it were excluded.
        """
        return exclusions.applied(self.scan(), self.options.exclude, self.location)

    @property
    def work(self) -> Path:
        """The folder in which it is prepared."""
        return places.cache_folder() / "store" / "work" / self.memory.stem


def load(place: Place) -> Loaded:
    """The splits of the data, prepared now if they were not before.

    Raises:
        DataError: the data cannot be trained on.
        CheckFailed: more images than `max_bad` are unreadable, or a file changed meanwhile.
    """
    started = time.time()
    stamp, newest = _stamp(place.paths)
    known = _opened(place, stamp, newest)
    if known is None:
        with places.lock(place.memory.with_suffix(".lock"), place.work):
            known = _opened(place, stamp, newest)  # another process may have prepared it while we waited
            if known is None:
                seen = _prepare(place, stamp, newest < started - _SETTLED_S)
                if _stamp(place.paths)[0] != stamp:
                    shutil.rmtree(place.work, ignore_errors=True)
                    raise CheckFailed(
                        f"{place.location} changed while it was being read; wait until nothing writes, run again"
                    )
                files.write_json(place.memory, seen)
                shutil.rmtree(place.work, ignore_errors=True)
                opened = store.open_store(seen["key"], place.options.max_bad, place.location, written=True)
                assert opened is not None
                known = seen, opened
    return _loaded(place, *known)


def _opened(place: Place, stamp: str, newest: float) -> tuple[dict[str, Any], store.Store] | None:
    """What is remembered of the data, and its store; None where it has to be prepared."""
    for memory in place.memories:
        seen = _recall(memory, stamp)
        if seen is None or place.options.size not in (None, seen["size"]):
            continue
        if seen["settled"] or _same_content(place, memory, seen, newest):
            opened = store.open_store(seen["key"], place.options.max_bad, place.location)
            return (seen, opened) if opened else None
    return None


def _recall(memory: Path, stamp: str) -> dict[str, Any] | None:
    try:
        seen = files.read_json(memory)
    except (DamagedFile, FileNotFoundError):
        return None
    fits = isinstance(seen, dict) and (seen.get("schema"), seen.get("stamp")) == (store.SCHEMA, stamp)
    return seen if fits and seen.get("decoder") == PIL.__version__ else None


def _same_content(place: Place, memory: Path, seen: dict[str, Any], newest: float) -> bool:
    """Whether files that were too fresh to be known by their states are the ones that were prepared."""
    started = time.time()
    listing = place.listing()
    digests = []
    with progress.bar("read images", len(listing.entries), "image") as advance:
        for digest in packing.parallel(packing.digest, listing.contents(listing.entries)):
            digests.append(digest)
            advance()
    if store.content_key(listing, digests, _preprocess(seen)) != seen["key"]:
        return False
    if newest < started - _SETTLED_S:
        files.write_json(memory, seen | {"settled": True})
    return True


def _prepare(place: Place, stamp: str, settled: bool) -> dict[str, Any]:
    """Decode the data into its store; what there is to remember of it.

    `settled` is false where a file is so fresh that a later change could carry the same time, and stay unseen.

    Raises:
        CheckFailed: more images than `max_bad` are unreadable. What was decoded is kept, for a second try.
    """
    listing = place.listing()
    try:
        plan = _plan(place, listing, {"stamp": stamp, "images": len(listing.entries)}, settled)
        if "key" in plan and store.is_whole(store.folder_of(plan["key"])):  # killed at the very end
            return plan
        packed = packing.pack(place.work, listing, _preprocess(plan))
        _judge(place, listing, packed.rows)
        unfinished = place.work / packing.FINISHED
        key = store.finish(unfinished, listing, packed.rows, _preprocess(plan), packed.pixels.hexdigest())
        files.write_json(place.work / _PLAN, plan | {"key": key})
        store.keep(unfinished, key)
    except OSError:  # a full disk is not helped by keeping what fills it
        shutil.rmtree(place.work, ignore_errors=True)
        raise
    return plan | {"key": key}


def _plan(place: Place, listing: Listing, state: dict[str, Any], settled: bool) -> dict[str, Any]:
    """How the data is prepared: as a killed process began to, or anew."""
    fixed = {"schema": store.SCHEMA, "decoder": PIL.__version__} | state
    try:
        plan: dict[str, Any] = files.read_json(place.work / _PLAN)
        if isinstance(plan, dict) and fixed.items() <= plan.items():
            _log.info("going on with the preparation of %s where it stopped", place.location)
            files.sweep(place.work)
            files.sweep(place.work / packing.FINISHED)
            return plan
    except (DamagedFile, FileNotFoundError):
        pass
    shutil.rmtree(place.work, ignore_errors=True)
    options = place.options
    size, why = (options.size, []) if options.size else _own_size(_shapes(listing))
    made = {"size": size, "size_notes": why, "resize": options.resize, "notes": listing.notes, "settled": settled}
    files.write_json(place.work / _PLAN, fixed | made)
    return fixed | made


def _judge(place: Place, listing: Listing, rows: Sequence[store.Row]) -> None:
    """Tell what had to be left out, and refuse the data where that is too much."""
    left_out = [LeftOut(entry.id, row.reason) for entry, row in zip(listing.entries, rows, strict=True) if row.reason]
    for bad in left_out[:_WARNINGS]:
        _log.warning("left out %s: %s", bad.id, bad.reason)
    if len(left_out) > _WARNINGS:
        more = len(left_out) - _WARNINGS
        _log.warning("left out %d more; `peregrine data check %s` lists all", more, place.location)
    store.check_bad(left_out, len(rows), place.options.max_bad, place.location)
    store.check_classes(listing, rows, place.location)


def _preprocess(plan: dict[str, Any]) -> Preprocess:
    return Preprocess(size=plan["size"], resize=plan["resize"])


def _shapes(listing: Listing) -> list[tuple[int, int]]:
    """Width and height of the readable ones of some images, the same ones in whatever order they come."""
    entries: Sequence[Entry] = listing.entries
    if len(entries) > _MEASURED:
        drawn = sorted(range(len(entries)), key=lambda index: zlib.crc32(entries[index].id.encode()))[:_MEASURED]
        entries = [entries[index] for index in sorted(drawn)]

    def measure(read: Read) -> tuple[int, int] | None:
        try:
            return dimensions(read())
        except BadImage:  # the reason is told when it is decoded
            return None

    shapes = []
    with progress.bar("measure images", len(entries), "image") as advance:
        for shape in packing.parallel(measure, listing.contents(entries)):
            if shape:
                shapes.append(shape)
            advance()
    return shapes


def _own_size(shapes: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
    """The side that images of these shapes have or suggest, and a note if it had to be derived."""
    sides = {side for shape in shapes for side in shape}
    if len(sides) == 1 and (side := sides.pop()) in _OWN_SIZES:
        return side, []
    low, high = _DERIVED_SIZES
    median = statistics.median(min(shape) for shape in shapes) if shapes else low
    size = min(max(8 * round(median / 8), low), high)
    return size, [f"the images are prepared at {size}×{size}, from a median shorter side of {median:g} pixels"]


def _stamp(paths: Sequence[str]) -> tuple[str, float]:
    """A hash over the names and the states of all files, and the newest change in seconds since the epoch."""
    digest = hashlib.sha256()
    newest = 0
    for path in paths:
        try:
            at = os.stat(path)  # noqa: PTH116  a Path for each of a million files costs seconds
        except OSError:
            digest.update(os.fsencode(f"{path}\0absent\0"))
            continue
        newest = max(newest, at.st_ctime_ns)
        digest.update(os.fsencode(f"{path}\0{at.st_size} {at.st_mtime_ns} {at.st_ctime_ns} {at.st_ino} {at.st_dev}\0"))
    return digest.hexdigest(), newest / 1e9


def _loaded(place: Place, seen: dict[str, Any], opened: store.Store) -> Loaded:
    notes = [*seen["notes"], *([] if place.options.size else seen.get("size_notes", []))]
    if opened.left_out:
        notes.append(f"{len(opened.left_out)} of {seen['images']} images could not be read and were left out")

    def listing() -> Listing:
        whole, bad = place.listing(), {left.id for left in opened.left_out}
        return replace(whole, entries=[entry for entry in whole.entries if entry.id not in bad])

    parts = opened.parts
    train = parts.get("train", parts["test"].subset(slice(0, 0)))  # of data to judge on alone
    splits = Splits(train, parts.get("validation"), parts["test"], notes=tuple(notes))
    return Loaded(splits, opened.left_out, listing, opened.sizes)
