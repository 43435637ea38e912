"""Images that `data prepare --exclude` was told to leave out: remembered in the cache, by the name of the data.

    <cache>/exclusions/<key>.json    the data's name, the file that said so, and the images' ids

Every later use of the data leaves them out, and says so in the notes of its splits.
"""

import csv
import hashlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from peregrine import files
from peregrine.data import places
from peregrine.data.base import Listing
from peregrine.data.splitting import check
from peregrine.dataset import Dataset, Splits
from peregrine.errors import DamagedFile, DataError, UsageError, machine_error

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # what spreadsheets would compute, and our own mark


@dataclass(frozen=True)
class Exclusions:
    """Ids of images to leave out, the file that said so, and where it told them, the split and class of each."""

    ids: frozenset[str] = frozenset()
    file: str = ""
    members: dict[str, tuple[str, str]] = field(default_factory=dict)


def read(path: Path) -> Exclusions:
    """The images whose row says `yes` in the column `exclude` of a CSV file of `data check --csv`.

    Raises:
        UsageError: there is no such file, or it is no such CSV.
        MachineError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"--exclude takes a file of `peregrine data check SRC --csv FILE`, or none; got {str(path)!r}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise machine_error(error, path) from error
    except UnicodeDecodeError:
        raise UsageError(f"a file of findings is UTF-8; {path} is not; save it as CSV UTF-8") from None
    try:
        return _parsed(text, path)
    except csv.Error as error:
        raise UsageError(f"a file of findings is a CSV file; {path} is not: {error}; save it again") from None


def _parsed(text: str, path: Path) -> Exclusions:
    header = (text.splitlines() or [""])[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if not {"id", "exclude"} <= set(rows.fieldnames or ()):
        raise UsageError(f"a file of findings has the columns id and exclude; {path} has {header[:80]!r}")
    ids, members = set(), {}
    for row in rows:
        answer = (row["exclude"] or "").strip().lower()
        if answer not in ("yes", "no", ""):
            raise UsageError(f"exclude is yes or no; line {rows.line_num} of {path} says {answer!r}")
        if answer == "yes" and (id := _unquoted(row["id"] or "")):
            ids.add(id)
            if row.get("split") and row.get("label"):
                members[id] = row["split"], _unquoted(row["label"])
    return Exclusions(frozenset(ids), str(path), members)


def quoted(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: with an apostrophe before it where it looks like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unquoted(text: str) -> str:
    return text.removeprefix("'")


def remember(name: str, exclusions: Exclusions) -> None:
    """Leave these images out of the data of that name from now on; none takes all again.

    Args:
        name: of a source, or the resolved path of a folder.
    """
    path = _file(name)
    if exclusions.ids:
        files.write_json(path, {"schema": 1, "data": name, "file": exclusions.file, "ids": sorted(exclusions.ids)})
    else:
        path.unlink(missing_ok=True)


def recall(name: str) -> Exclusions:
    """What `remember` was last told of that name.

    Raises:
        DamagedFile: the file is not as it was written.
    """
    path = _file(name)
    if not path.exists():
        return Exclusions()
    content = files.read_json(path)
    try:
        return Exclusions(frozenset(map(str, content["ids"])), str(content["file"]))
    except (KeyError, TypeError):
        raise DamagedFile(f"{path} does not say which images to leave out; delete it and exclude again") from None


def applied(listing: Listing, ids: frozenset[str], location: Path) -> Listing:
    """A listing without those images.

    Raises:
        DataError: what is left is no data set; see `splitting.check`.
    """
    entries = [entry for entry in listing.entries if entry.id not in ids]
    if len(entries) == len(listing.entries):
        return listing
    try:
        lost = {entry.split for entry in listing.entries} - {entry.split for entry in entries}
        if lost:
            raise DataError(f"every split has an image; in {location} {min(lost)} has none")
        check(entries, listing.class_names, location)
    except DataError as error:
        left = len(listing.entries) - len(entries)
        raise DataError(
            f"{error} ({left:,} left out, as `peregrine data prepare` was told; `--exclude none` takes them back)"
        ) from None
    return replace(listing, entries=entries)


def without(splits: Splits, exclusions: Exclusions) -> Splits:
    """Splits without those images, with a note that says so."""
    number = len(exclusions.ids)
    if not number:
        return splits
    note = (
        f"{number:,} {'image is' if number == 1 else 'images are'} left out, as {exclusions.file} told "
        "`peregrine data prepare`; `--exclude none` takes them back"
    )
    ids = list(exclusions.ids)
    return replace(
        splits,
        train=_kept(splits.train, ids),
        validation=_kept(splits.validation, ids) if splits.validation else None,
        test=_kept(splits.test, ids),
        notes=(*splits.notes, note),
    )


def _kept(part: Dataset, ids: list[str]) -> Dataset:
    stays = ~np.isin(part.ids, ids)
    return part if stays.all() else part.subset(np.flatnonzero(stays))


def _file(name: str) -> Path:
    return (
        places.cache_folder()
        / "exclusions"
        / f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    )
