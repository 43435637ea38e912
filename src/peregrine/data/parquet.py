"""Parquet files in the layout of the Hugging Face hub: a column of encoded images and a column of labels.

`image` (or `img`) is a struct of `bytes` and `path`, or the bytes themselves; `label` is a number whose class name is
in the schema's metadata, a number that is its own name, or a name. Any number of shards; a shard's name tells its
split, `train-00000-of-00002.parquet`.

Source: the features ClassLabel and Image of huggingface/datasets, as they write themselves into a schema.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow
import pyarrow.parquet

from peregrine.data import image_files, preparing
from peregrine.data.base import Entry, Item, Listing, Loaded, Options, Read
from peregrine.data.shards import divided, holds_images, shards
from peregrine.data.splitting import LONGEST_NAME, arranged, check, printable, splits_of
from peregrine.errors import DamagedFile, DataError

_SUFFIX = ".parquet"
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_METADATA = b"huggingface"
_ROWS, _READ_BYTES = 32, 32 << 20  # read at once, whichever is less
_GROUP_ROWS = 100  # written at once, as the hub does with images, so that its viewer is quick
_GROUP_BYTES = 64 << 20
_SHARD_BYTES = 500 << 20
_BYTES = (pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_binary_view)
_TEXT = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Shard:
    """A Parquet file.

    Attributes:
        path, name: where it is, and relative to what the user named.
        split: what its name tells.
        image, label: its columns; `label` with the names in the metadata, if there are any.
        is_struct: whether an image is a struct, or bytes.
    """

    path: Path
    name: PurePath
    split: str
    image: str
    label: str
    is_struct: bool
    class_names: tuple[str, ...] | None


def recognises(location: Path) -> bool:
    """Whether `location` is a Parquet file, a pattern for some, or a folder with some and without image files."""
    return bool(shards(location, _SUFFIX)) and not (location.is_dir() and holds_images(location))


def load_from(location: Path, options: Options) -> Loaded:
    """The images in Parquet files, prepared; see `Layout`.

    The ids are the paths in the image column where every row has another one, of a length that a file may have, else
    `train-00000-of-00002/17`. Classes are in the order of the schema's metadata, or sorted.

    Raises:
        DataError: a column is missing or of another type, a label means no class, a shard is missing, or as `check`.
        DamagedFile: a file is no Parquet file, or is damaged.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    paths = [str(path) for path, _ in shards(location, _SUFFIX)]
    return preparing.load(preparing.Place(location, options, paths, lambda: scan(location, options.seed)))


def scan(location: Path, seed: int | None) -> Listing:
    """All rows of all shards, without their images.

    Raises:
        DataError, DamagedFile: as `load_from`.
    """
    found = shards(location, _SUFFIX)
    names = [name for _, name in found]
    _check_numbers(names, location)
    splits = splits_of(names, location)
    opened = [_shard(path, name, split) for (path, name), split in zip(found, splits, strict=True)]
    described = {shard.class_names for shard in opened}
    if len(described) > 1:
        raise DataError(f"all shards have the same class names in their metadata; those in {location} differ")
    (class_names,) = described
    rows = [_rows(shard, class_names) for shard in opened]
    ids = [path for _, paths in rows for path in paths]
    by_path = all(ids) and len(set(ids)) == len(ids) and all(len(printable(path)) <= LONGEST_NAME for path in ids)
    entries = [
        Entry(printable(path if by_path else f"{shard.name.with_suffix('')}/{row}"), shard.split, label, (number, row))
        for number, (shard, (labels, paths)) in enumerate(zip(opened, rows, strict=True))
        for row, (label, path) in enumerate(zip(labels, paths, strict=True))
    ]
    entries, notes = arranged(entries, seed, location)
    if class_names is None:
        class_names = tuple(sorted({entry.class_name for entry in entries}))
    check(entries, class_names, location)

    def contents(wanted: Iterable[Entry]) -> Iterator[Read]:
        # within a split and a shard, rows ascend
        for (_, number), group in itertools.groupby(wanted, key=lambda entry: (entry.split, entry.place[0])):
            yield from _cells(opened[number], [entry.place[1] for entry in group])

    return Listing(entries, class_names, contents, tuple(notes))


def write(folder: Path, class_names: tuple[str, ...], items: Iterable[Item]) -> None:
    """Write shards of at most half a GiB for each split, which `datasets` of the hub reads as they are."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
    schema = pyarrow.schema(
        {
            "image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
            "label": pyarrow.int64(),
        },
        metadata={_METADATA: json.dumps({"info": {"features": features}}).encode()},
    )
    for split, members in itertools.groupby(items, key=lambda item: item.split):
        written: list[Path] = []
        for shard in divided(members, _SHARD_BYTES):
            written.append(folder / f"{split}-{len(written):05d}.parquet")
            with pyarrow.parquet.ParquetWriter(written[-1], schema) as writer:
                for group in divided(shard, _GROUP_BYTES, _GROUP_ROWS):
                    writer.write_table(_table(list(group), schema))
        for path in written:
            path.rename(path.with_name(f"{path.stem}-of-{len(written):05d}.parquet"))


def _table(items: Sequence[Item], schema: Any) -> Any:
    images = [{"bytes": item.content, "path": item.id} for item in items]
    return pyarrow.table({"image": images, "label": [item.label for item in items]}, schema=schema)


def _check_numbers(names: Sequence[PurePath], location: Path) -> None:
    """Refuse shards of which one is missing, as after a download that was cut."""
    series: dict[tuple[PurePath, str, int], set[int]] = {}
    for name in names:
        if matched := _NUMBERED.fullmatch(name.stem):
            series.setdefault((name.parent, matched[1], int(matched[3])), set()).add(int(matched[2]))
    for (parent, stem, count), present in series.items():
        missing = next((index for index in range(count) if index not in present), None)
        if missing is not None:
            lacking = parent / f"{stem}-{missing:05d}-of-{count:05d}.parquet"
            raise DataError(
                f"the names of the shards in {location} tell of {count} for {stem}; {lacking} is missing; get it, or "
                "rename those that are there"
            )


def _shard(path: Path, name: PurePath, split: str) -> Shard:
    with _explained(path), _opened(path) as file:
        schema = file.schema_arrow
    features = _features(schema, path)
    image = _column(schema, _IMAGE_COLUMNS, [key for key, value in features.items() if value.get("_type") == "Image"])
    label = _column(
        schema, _LABEL_COLUMNS, [key for key, value in features.items() if value.get("_type") == "ClassLabel"]
    )
    if image is None or label is None:
        wanted = "image or img" if image is None else "label"
        raise DataError(f"images in Parquet have a column {wanted}; {path} has {printable(', '.join(schema.names))}")
    for column in (image, label):
        if schema.names.count(column) > 1:
            raise DataError(f"columns have names of their own; {path} has {column!r} twice; rename one")
    kind = schema.field(image).type
    is_struct = pyarrow.types.is_struct(kind)
    if is_struct:
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else None
    if kind is None or not any(is_kind(kind) for is_kind in _BYTES):
        raise DataError(
            f"column {image} holds encoded images, as bytes or as a struct of bytes and path; in {path} it is "
            f"{_one_line(schema.field(image).type)}"
        )
    kind = schema.field(label).type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pyarrow.types.is_integer(kind) or any(is_kind(kind) for is_kind in _TEXT)):
        raise DataError(f"column {label} holds whole numbers or names; in {path} it is {_one_line(kind)}")
    names = features.get(label, {}).get("names") if pyarrow.types.is_integer(kind) else None
    if names is not None and not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
        raise DataError(f"the names of a ClassLabel are a list of texts; the metadata of {path} has {_one_line(names)}")
    return Shard(path, name, split, image, label, is_struct, None if names is None else tuple(names))


def _features(schema: Any, path: Path) -> dict[str, dict[str, Any]]:
    """What the schema's metadata says of the columns; nothing, where it says nothing."""
    text = (schema.metadata or {}).get(_METADATA)
    if text is None:
        return {}
    try:
        found = json.loads(text)["info"]["features"]
        return {str(key): value for key, value in found.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"the metadata 'huggingface' of a Parquet file is JSON with info.features; {path} has "
            f"{_one_line(text.decode(errors='replace'))}"
        ) from None


def _column(schema: Any, known: Sequence[str], described: Sequence[str]) -> str | None:
    """The column of a known name, or else the only one that the metadata describes as such."""
    present = [name for name in known if name in schema.names]
    if present:
        return present[0]
    return described[0] if len(described) == 1 and described[0] in schema.names else None


def _rows(shard: Shard, class_names: tuple[str, ...] | None) -> tuple[list[str], list[str]]:
    """The class name and the image's path of each row; the path is empty where there is none."""
    path_column = f"{shard.image}.path"
    labels: list[str] = []
    paths: list[str] = []
    with _explained(shard.path), _opened(shard.path) as file:
        leaves = {file.schema.column(index).path for index in range(len(file.schema))}
        has_paths = shard.is_struct and path_column in leaves
        wanted = [shard.label, *([path_column] if has_paths else [])]
        for batch in file.iter_batches(batch_size=4096, columns=wanted, use_threads=False):
            for label in batch.column(shard.label).to_pylist():
                labels.append(_class_name(label, class_names, shard, len(labels)))
            if has_paths:
                paths += [str(cell or "") for cell in batch.column(shard.image).field("path").to_pylist()]
    return labels, paths or [""] * len(labels)


def _class_name(label: int | str | None, class_names: tuple[str, ...] | None, shard: Shard, row: int) -> str:
    if label is None:
        raise DataError(f"every image has a label; row {row} of {shard.path} has none; add it or remove the row")
    if class_names is None:
        return str(label)
    if not (isinstance(label, int) and 0 <= label < len(class_names)):
        raise DataError(
            f"labels are 0 to {len(class_names) - 1}, for {len(class_names)} class names; row {row} of {shard.path} "
            f"has {label}; correct or remove it"
        )
    return class_names[label]


def _cells(shard: Shard, rows: Sequence[int]) -> Iterator[Read]:
    """What reads the images in these rows, which ascend; only the parts of the file that have one are read."""
    wanted = iter(rows)
    row = next(wanted)
    with _explained(shard.path), _opened(shard.path) as file:
        first = 0  # row of the group, then of the batch
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            if row >= end:
                first = end
                continue
            # not through Arrow's threads, as all cores decode already
            for batch in file.iter_batches(
                _rows_at_once(file, group), row_groups=[group], columns=[shard.image], use_threads=False
            ):
                column = batch.column(0).field("bytes") if shard.is_struct else batch.column(0)
                while row < first + len(batch):
                    yield image_files.Held(column[row - first].as_py())
                    following = next(wanted, None)
                    if following is None:
                        return
                    row = following
                first += len(batch)
                if row >= end:
                    break
            first = end
        raise pyarrow.ArrowInvalid(f"row {row} is missing")


def _rows_at_once(file: Any, group: int) -> int:
    """How many rows of a group are read at once, so that they do not take much more than `_READ_BYTES`."""
    described = file.metadata.row_group(group)
    columns = [described.column(index) for index in range(described.num_columns)]
    largest = max(columns, key=lambda column: column.total_uncompressed_size)
    # a dictionary has each value once, and every row of the group may be the longest one
    rows = 1 if largest.has_dictionary_page else max(1, described.num_rows)
    row = largest.total_uncompressed_size // rows
    return int(max(1, min(_ROWS, _READ_BYTES // max(1, row))))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # through a buffer, so that of a large group of rows not all is in memory at once
    with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        for group in map(file.metadata.row_group, range(file.num_row_groups)):
            sizes = [group.column(index).total_uncompressed_size for index in range(group.num_columns)]
            if max(sizes, default=0) > image_files.MAX_BYTES * max(1, group.num_rows):
                raise pyarrow.ArrowInvalid(f"it announces {max(sizes):,} bytes for {group.num_rows:,} rows")
        yield file


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what Arrow says of a file into the user's words."""
    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:  # the machine's; those of Arrow's decoders have no number
            raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: BaseException) -> DamagedFile:
    return DamagedFile(f"{path} is no whole Parquet file ({_one_line(error)}); get it again")


def _one_line(found: object) -> str:
    """What a file says of itself, short and on one line."""
    text = printable(" ".join(str(found).split()))
    return text if len(text) <= 120 else f"{text[:117]}…"
