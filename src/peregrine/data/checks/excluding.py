"""`data prepare --exclude`: from a file of findings to data without them."""

import logging
from pathlib import Path

from peregrine.data import exclusions, sources
from peregrine.data.base import Options
from peregrine.data.checks.pool import Pool
from peregrine.errors import DataError, UsageError

_log = logging.getLogger("peregrine")


def exclude(source: str | Path, file: str) -> None:
    """Leave the images that a file of findings marks out of `source`, too, now and later; `none` takes all again.

    Raises:
        UsageError: the file is no file of findings, marks nothing, or is of other data.
        DataError: a split would have no image of a class left.
        UsageError, DataError, DamagedFile, MachineError: the data cannot be loaded; see `load_dataset`.
    """
    name = sources.identity(source)
    if file == "none":
        exclusions.remember(name, exclusions.Exclusions())
        return
    marked = exclusions.read(Path(file))
    if not marked.ids:
        raise UsageError(f"a file of findings marks images with exclude = yes; {file} marks none; edit that column")
    before = exclusions.recall(name).ids
    members = _members(source)
    unknown = marked.ids - members.keys() - before
    if unknown == marked.ids:
        raise UsageError(f"the file was made of this data; {file} names no image of {source}; check the data again")
    known = marked.members.keys() & members.keys()
    others = [id for id in known if _place(marked.members[id]) != _place(members[id])]
    if len(others) > len(known) / 2:
        first = min(others)
        told, there = (" ".join(found[first]) for found in (marked.members, members))
        raise UsageError(
            f"the file was made of this data; {file} has {first!r} as {told}, in {source} it is {there}; "
            "check the data again"
        )
    if unknown:
        _log.warning("%d of the %d images to leave out are not in %s", len(unknown), len(marked.ids), source)
    if lost := set(members.values()) - {place for id, place in members.items() if id not in marked.ids}:
        split, class_name = min(lost)
        raise DataError(
            f"every class keeps an image in every split; {file} leaves none of {class_name!r} in {split}; mark fewer"
        )
    exclusions.remember(name, exclusions.Exclusions(before | (marked.ids - unknown), marked.file))


def _place(member: tuple[str, str]) -> tuple[str, str]:
    """Split and class as they can be compared: spreadsheets make 7 of a class 00007."""
    split, class_name = member
    return split, class_name.lstrip("0")


def _members(source: str | Path) -> dict[str, tuple[str, str]]:
    """Split and class of every image, readable or not, that is not left out already, by its id."""
    listing = sources.listing(source)
    if listing:
        return {entry.id: (entry.split, entry.class_name) for entry in listing.entries}
    parts = Pool(sources.load(source, Options(max_bad=1.0)).splits).parts
    return {
        str(id): (split, part.class_names[label])
        for split, part in parts
        for id, label in zip(part.ids, part.labels.tolist(), strict=True)
    }
