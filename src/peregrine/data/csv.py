"""A CSV file with a line for each image: its path, its label and, if there is one, its split.

The first line names the columns: `path` (or `file_name`, `filename`, `file`, `image`), `label` (or `class`), `split`.
Paths are relative to the CSV file, and lead to files below its folder.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from peregrine.data import image_files, preparing
from peregrine.data.base import Entry, Listing, Loaded, Options
from peregrine.data.splitting import WORDS, arranged, check, printable
from peregrine.errors import DamagedFile, DataError

_PATH_COLUMNS = ("path", "file_name", "filename", "file", "image")
_LABEL_COLUMNS = ("label", "class")
_SPLIT_COLUMN = "split"


def recognises(location: Path) -> bool:
    """Whether `location` is a file with the suffix `.csv`."""
    return location.is_file() and location.suffix.lower() == ".csv"


def load_from(location: Path, options: Options) -> Loaded:
    """The images that a CSV file lists, prepared; see `Layout`.

    The ids are the paths as they stand there, the classes are sorted.

    Raises:
        DataError: a column or a value is missing, a path leads out of the folder or comes twice, or as `check`.
        DamagedFile: the file is no CSV file.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    listing = scan(location, options.seed)
    paths = [str(location), *(entry.place for entry in listing.entries)]
    return preparing.load(preparing.Place(location, options, paths, lambda: listing))


def scan(location: Path, seed: int | None) -> Listing:
    """All lines of the file.

    Raises:
        DataError, DamagedFile: as `load_from`.
    """
    folder = location.parent.resolve()  # or `..` in the way there would make every place one outside
    entries: list[Entry] = []
    lines: dict[str, int] = {}  # by the place of the image
    for line, path, label, split in _rows(location):
        place = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118  a Path for each of a million costs seconds
        if not place.startswith(f"{folder}{os.sep}") or "\0" in path:  # which no file's name has
            raise DataError(
                f"the images of a CSV file lie below its folder; line {line} of {location} has {path!r}; move the "
                "image, or the CSV file"
            )
        if place in lines:
            raise DataError(
                f"an image stands once in a CSV file; {location} has {path!r} in lines {lines[place]} and {line}; "
                "remove one"
            )
        lines[place] = line
        entries.append(Entry(printable(path), split, label, place))
    class_names = tuple(sorted({entry.class_name for entry in entries}))
    entries, notes = arranged(entries, seed, location)
    check(entries, class_names, location)
    return Listing(entries, class_names, image_files.contents(folder), tuple(notes))


def _rows(location: Path) -> Iterator[tuple[int, str, str, str]]:
    """Number, path, label and split of each line that has something."""
    try:
        # bytes that are no UTF-8 stay what they are, because they may be those of a file's name
        with location.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            path_at, label_at = (_position(header, names, location) for names in (_PATH_COLUMNS, _LABEL_COLUMNS))
            split_at = header.index(_SPLIT_COLUMN) if _SPLIT_COLUMN in header else None
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"every line has the {len(header)} columns of the first; line {reader.line_num} of {location} "
                        f"has {len(row)}; put a comma that belongs to a value in quotes"
                    )
                path, label = row[path_at], row[label_at].strip()
                if not path or not label:
                    raise DataError(
                        f"every image has a path and a label; line {reader.line_num} of {location} lacks one; add it "
                        "or remove the line"
                    )
                yield (
                    reader.line_num,
                    path,
                    label,
                    _split(row[split_at], reader.line_num, location) if split_at is not None else "train",
                )
    except (csv.Error, ValueError) as error:
        raise DamagedFile(f"{location} is no CSV file: {error}; write it again, in UTF-8") from None


def _position(header: Sequence[str], names: Sequence[str], location: Path) -> int:
    found = next((header.index(name) for name in names if name in header), None)
    if found is None:
        raise DataError(
            f"the first line of a CSV file names the columns path and label, and split if there is one; {location} has "
            f"{printable(', '.join(header)[:120])!r}"
        )
    return found


def _split(name: str, line: int, location: Path) -> str:
    split = WORDS.get(name.strip().lower())
    if split is None:
        raise DataError(
            f"a split is train, validation or test; line {line} of {location} has {printable(name[:60])!r}; correct it"
        )
    return split
