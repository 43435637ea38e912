"""WebDataset: tar files in which the members of a sample share a name, `000017.jpg` and `000017.cls`.

The label is the content of `.cls`, or `label` (or `cls`, `class`) in `.json`: a name, or a number. What a number means
stands in `classnames.txt` beside the shards, a name on each line; without it, a number is its own name. A shard's name
tells its split, `train-000000.tar`.

Nothing is ever unpacked: a shard is read in place.

Source: https://github.com/webdataset/webdataset, the format; `classnames.txt` as in LAION's CLIP_benchmark.
"""

import contextlib
import functools
import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from peregrine.data import image_files, preparing
from peregrine.data.base import Entry, Item, Listing, Loaded, Options, Read
from peregrine.data.shards import divided, holds_images, shards
from peregrine.data.splitting import arranged, check, printable, splits_of
from peregrine.errors import DamagedFile, DataError
from peregrine.preprocess import SUFFIXES, BadImage

_SUFFIX = ".tar"
_NAMES = "classnames.txt"
_NAMES_BYTES = 1 << 24
_LABEL_KEYS = ("label", "cls", "class")
_LABEL_BYTES = 1 << 16
_SHARD_BYTES = 500 << 20
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)  # a sample's name, and what the member is in it
_NUMBER = re.compile(r"-?\d{1,18}")


def recognises(location: Path) -> bool:
    """Whether `location` is a tar file, a pattern for some, or a folder with some, and no Parquet or image files."""
    if location.is_dir() and (holds_images(location) or shards(location, ".parquet")):
        return False
    return bool(shards(location, _SUFFIX))


def load_from(location: Path, options: Options) -> Loaded:
    """The images in tar files, prepared; see `Layout`.

    The ids are the names in the tar files where all are different, else `train-000000/000017.jpg`. Classes are in the
    order of `classnames.txt`, or sorted.

    Raises:
        DataError: an image without a label, or two images in a sample; a label that means no class; or as `check`.
        DamagedFile: a file is no tar file, is damaged, or holds what has no place in one.
        CheckFailed: more images than `options.max_bad` are unreadable.
    """
    paths = [str(path) for path, _ in shards(location, _SUFFIX)] + [str(path) for path in _names_paths(location)]
    return preparing.load(preparing.Place(location, options, paths, lambda: scan(location, options.seed)))


def scan(location: Path, seed: int | None) -> Listing:
    """All images of all shards.

    Raises:
        DataError, DamagedFile: as `load_from`.
    """
    found = shards(location, _SUFFIX)
    splits = splits_of([name for _, name in found], location)
    class_names = _class_names(location)
    entries = [
        Entry(
            image.name,
            split,
            _class_name(label, class_names, f"{image.name!r} in {path}"),
            (path, image.offset_data, image.size),
        )
        for (path, _), split in zip(found, splits, strict=True)
        for image, label in _samples(path)
    ]
    unique = len({entry.id for entry in entries}) == len(entries)
    shard_names = {path: name.with_suffix("") for path, name in found}
    entries = [
        replace(entry, id=printable(entry.id if unique else f"{shard_names[entry.place[0]]}/{entry.id}"))
        for entry in entries
    ]
    entries, notes = arranged(entries, seed, location)
    if class_names is None:
        class_names = tuple(sorted({entry.class_name for entry in entries}))
        if all(map(_NUMBER.fullmatch, class_names)):
            notes.append(f"the classes have numbers instead of names; {_NAMES} beside the shards can give them some")
    check(entries, class_names, location)
    return Listing(entries, class_names, _contents, tuple(notes))


def write(folder: Path, class_names: tuple[str, ...], items: Iterable[Item]) -> None:
    """Write shards of at most half a GiB for each split, and the class names beside them."""
    (folder / _NAMES).write_text("".join(f"{name}\n" for name in class_names), "utf-8")
    numbers = itertools.count()
    for split, members in itertools.groupby(items, key=lambda item: item.split):
        for index, shard in enumerate(divided(members, _SHARD_BYTES)):
            with tarfile.open(folder / f"{split}-{index:06d}.tar", "w") as tar:
                for item in shard:
                    key = f"{next(numbers):09d}"
                    for suffix, content in ((item.suffix, item.content), (".cls", str(item.label).encode())):
                        member = tarfile.TarInfo(key + suffix)
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))


def _samples(path: Path) -> Iterator[tuple[tarfile.TarInfo, str | int]]:
    """The image of each sample, and its label."""
    with path.open("rb") as file, _explained(path), tarfile.open(fileobj=file, mode="r:") as tar:
        size = path.stat().st_size
        parts = (
            (matched[1], matched[2].lower(), member)
            for member in _members(tar, path, size)
            if (matched := _MEMBER.fullmatch(member.name))
        )
        for name, group in itertools.groupby(parts, key=lambda part: part[0]):
            members: dict[str, tarfile.TarInfo] = {}
            for _, kind, member in group:
                if members.setdefault(kind, member) is not member:
                    raise DataError(f"a sample has each file once; {name!r} in {path} has {kind} twice; remove one")
            images = [member for kind, member in members.items() if f".{kind}" in SUFFIXES]
            if not images:
                continue
            if len(images) > 1:
                raise DataError(f"a sample has one image; {name!r} in {path} has {len(images)}; split it or remove one")
            yield images[0], _label(tar, members, name, path)


def _members(tar: tarfile.TarFile, path: Path, size: int) -> Iterator[tarfile.TarInfo]:
    """The files in a tar file, up to its proper end."""
    for member in tar:
        if member.size < 0:  # from which tarfile would step back, and read the same head for ever
            raise tarfile.ReadError(f"{printable(member.name)} announces {member.size:,} bytes")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise DamagedFile(f"{path} is refused: {member.name!r} would land outside the folder; get the official one")
        if not (member.isdir() or (member.isfile() and not member.issparse())):
            raise DamagedFile(f"{path} is refused: {member.name!r} is a link or a device; get the official one")
        if member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{printable(member.name)} announces {member.size:,} bytes, and there are fewer")
        if member.isfile():
            yield member
        tar.members = []  # type: ignore[attr-defined]  # else it remembers all of them
    # a damaged head ends the iteration like a proper end does
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if (end := tar.fileobj.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing" if not end else f"there is no file head at byte {tar.offset:,}")


def _label(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, path: Path) -> str | int:
    kind = next((kind for kind in ("cls", "json") if kind in members), None)
    if kind is None:
        raise DataError(f"every image has a label, in .cls or .json; {name!r} in {path} has none; add it beside it")
    content = tar.extractfile(members[kind]) if members[kind].size <= _LABEL_BYTES else None
    text = content.read() if content else b""
    try:
        label = text.decode().strip() if kind == "cls" else _json_label(json.loads(text))
    except (ValueError, RecursionError):
        label = None
    if label is None or label == "":
        raise DataError(
            f"a label is a number or a name, as the text of .cls or as 'label' in .json; {name}.{kind} in {path} holds "
            f"{printable(text[:60].decode(errors='replace'))!r}"
        )
    return label


def _json_label(content: object) -> str | int | None:
    if not isinstance(content, dict):
        return None
    found = next((content[key] for key in _LABEL_KEYS if key in content), None)
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def _class_name(label: str | int, class_names: tuple[str, ...] | None, where: str) -> str:
    text = str(label)
    if class_names is None:
        return text
    if not _NUMBER.fullmatch(text):
        if text in class_names:
            return text
        raise DataError(f"a label is one of the names in {_NAMES}, or the number of one; {where} has {text!r}")
    if not 0 <= int(text) < len(class_names):
        raise DataError(
            f"labels are 0 to {len(class_names) - 1}, for {len(class_names)} class names; {where} has {text}; correct "
            "or remove it"
        )
    return class_names[int(text)]


def _names_paths(location: Path) -> list[Path]:
    """Where the class names may stand."""
    top = location if location.is_dir() else location.parent
    return sorted({top / _NAMES, *(path.parent / _NAMES for path, _ in shards(location, _SUFFIX))})


def _class_names(location: Path) -> tuple[str, ...] | None:
    path = next((path for path in _names_paths(location) if path.is_file()), None)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_NAMES_BYTES).decode("utf-8-sig").rstrip("\r\n")
            return tuple(line.removesuffix("\r") for line in text.split("\n"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds class names in UTF-8, one on each line; found {error}") from None


def _contents(entries: Iterable[Entry]) -> Iterator[Read]:
    return (functools.partial(_read, *entry.place) for entry in entries)


def _read(path: Path, offset: int, size: int) -> bytes:
    image_files.check_size(size)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
    except OSError as error:
        raise BadImage((error.strerror or str(error)).lower()) from None
    if len(content) < size:
        raise BadImage("the tar file ends before the image does")
    return content


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what `tarfile` says of a file into the user's words."""
    try:
        yield
    except (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError) as error:
        raise DamagedFile(f"{path} is no whole tar file: {error}; get it again") from None
