"""CIFAR-10 and CIFAR-100 in both official editions, binary and Python.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layouts are described at
https://www.cs.toronto.edu/~kriz/cifar.html. Pixels are planar there, `(3, 32, 32)`, and interleaved here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import arrays
from peregrine.data import archive, download, pickles, places
from peregrine.data.base import Loaded, Options
from peregrine.data.splitting import check_class_name
from peregrine.dataset import Dataset, Images, Labels, Splits
from peregrine.errors import DamagedFile
from peregrine.preprocess import Preprocess

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE  # bytes of one image


@dataclass(frozen=True)
class Batch:
    """The content of one file: planar pixels uint8 `(N, 3072)` and labels int64 `(N,)`."""

    pixels: Images
    labels: Labels


@dataclass(frozen=True)
class Edition:
    """One official way to store the data.

    Attributes:
        folder: official name of its folder.
        train, test: batch files, in order.
        names: the file with the class names.
        read_batch, read_names: readers of the two kinds of files; they raise `DamagedFile`.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    read_batch: Callable[[Path], Batch]
    read_names: Callable[[Path], list[str]]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that has to be there."""
        return (*self.train, self.test, self.names)


@dataclass(frozen=True)
class Cifar:
    """A source and a layout: CIFAR by name, and a folder with CIFAR's files.

    Attributes:
        name: the catalogue's key.
        editions: the layouts, the one preferred where both are found first.
        remotes: archives that one of the editions comes in; the first is downloaded, any is taken from the cache.
    """

    name: str
    editions: tuple[Edition, ...] = field(repr=False)
    remotes: tuple[download.Remote, ...] = field(repr=False)

    def fetch(self) -> Path:
        """The folder of the batches: below `PEREGRINE_DATA`, in the cache, or downloaded into it now.

        Raises:
            MachineError, DamagedFile, UsageError: as in `download.fetch`, `archive.extract` and `places.data_folder`.
        """
        data, cache = places.data_folder(), places.cache_folder()
        unpacked = cache / "datasets" / self.name
        for place in (data, data and data / self.name, unpacked):
            if place and (found := self._find(place)):
                return found[0]
        downloads = cache / "downloads"
        by_hand = (remote for remote in self.remotes if (downloads / remote.name).exists())
        archive.extract(download.fetch(next(by_hand, self.remotes[0]), downloads), unpacked)
        found = self._find(unpacked)
        if found is None:
            raise DamagedFile(f"{unpacked} holds no {self.name} batches after unpacking; delete it and run again")
        return found[0]

    def load(self, options: Options) -> Loaded:
        """Fetch and read; see `Source`."""
        return self.load_from(self.fetch(), options)

    def recognises(self, location: Path) -> bool:
        """Whether `location`, or the folder of an edition in it, has at least half of the edition's files."""
        return self._find(location) is not None

    def scan(self, location: Path, seed: int | None) -> None:
        """None: batches are pixels."""

    def load_from(self, location: Path, options: Options) -> Loaded:
        """Read all batches; see `Layout`. The ids are `train/0`, `train/1`, … and `test/0`, ….

        Raises:
            DamagedFile: a file is missing, has an impossible size or holds an impossible label.
        """
        found = self._find(location)
        if found is None:
            raise DamagedFile(f"{location} holds no {self.name} batches; get the official archive")
        folder, edition = found
        missing = [name for name in edition.files if not (folder / name).is_file()]
        if missing:
            raise DamagedFile(
                f"{self.name} consists of {', '.join(edition.files)}; {folder} lacks {', '.join(missing)}; "
                "get the official archive"
            )
        class_names = tuple(edition.read_names(folder / edition.names))
        train = _read(folder, edition.train, edition, class_names, "train", options)
        test = _read(folder, (edition.test,), edition, class_names, "test", options)
        return Loaded(Splits(train, None, test))

    def _find(self, location: Path) -> tuple[Path, Edition] | None:
        for edition in self.editions:
            for folder in (location, location / edition.folder):
                if 2 * sum((folder / name).is_file() for name in edition.files) >= len(edition.files):
                    return folder, edition
        return None


def _read(
    folder: Path, names: tuple[str, ...], edition: Edition, class_names: tuple[str, ...], split: str, options: Options
) -> Dataset:
    batches = []
    for name in names:
        batch = edition.read_batch(folder / name)
        low, high = batch.labels.min(), batch.labels.max()
        if low < 0 or high >= len(class_names):
            raise DamagedFile(
                f"{folder / name} is damaged: labels are 0 to {len(class_names) - 1}, found {low} to {high}; "
                "get the official file"
            )
        batches.append(batch)
    labels = np.concatenate([batch.labels for batch in batches])
    images = np.empty((len(labels), _SIDE, _SIDE, 3), np.uint8)
    place = arrays.choose("reshaping", len(labels) * _SIDE**2)
    start = 0
    for batch in batches:
        planes = batch.pixels.reshape(-1, 3, _SIDE, _SIDE)
        images[start : start + len(planes)] = arrays.planes_to_pixels(planes, place)
        start += len(planes)
    if options.size:
        images = Preprocess(size=options.size, resize=options.resize).fit_array(images)
    ids = np.array([f"{split}/{index}" for index in range(len(labels))])
    return Dataset(images, labels, ids, class_names)


def _binary_batch(path: Path, label_bytes: int) -> Batch:
    """Records of `label_bytes` labels, the finest last, and one image."""
    record = label_bytes + _PIXELS
    content = np.fromfile(path, np.uint8)
    count, rest = divmod(len(content), record)
    if rest or not count:
        raise DamagedFile(
            f"{path} is damaged: it holds whole records of {record:,} bytes, at least one; "
            f"found {len(content):,} bytes, which is {count:,} records and {rest:,} bytes; get the official file"
        )
    records = content.reshape(count, record)
    return Batch(records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64))


def _binary_names(path: Path) -> list[str]:
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return _checked_names([line.strip() for line in lines if line.strip()], path)


def _python_batch(path: Path, label_key: str) -> Batch:
    content = pickles.load(path)
    pixels, labels = content.get("data"), np.asarray(_plain_list(content.get(label_key)))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DamagedFile(
            f"{path} is damaged: 'data' is a uint8 array (N, {_PIXELS}), found {found}; get the official file"
        )
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1] or not len(labels):
        raise DamagedFile(
            f"{path} is damaged: {label_key!r} has one whole number for each of the {len(pixels):,} images in 'data', "
            f"at least one; found {len(labels):,}; get the official file"
        )
    return Batch(pixels, labels.astype(np.int64))


def _python_names(path: Path, key: str) -> list[str]:
    return _checked_names([pickles.text(name) for name in _plain_list(pickles.load(path).get(key))], path)


def _plain_list(value: Any) -> list[Any]:
    """The list that `value` is, flat, without nested ones; anything else counts as empty."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    return values if isinstance(values, list) and not any(isinstance(one, list) for one in values) else []


def _checked_names(names: list[str], path: Path) -> list[str]:
    if len(names) < 2 or len(set(names)) != len(names):
        raise DamagedFile(
            f"{path} is damaged: it holds two class names or more, all different; found {len(names)}; "
            "get the official file"
        )
    for name in names:
        check_class_name(name)
    return names


def _remote(name: str, size_bytes: int, md5: str, sha256: str) -> download.Remote:
    return download.Remote(f"https://www.cs.toronto.edu/~kriz/{name}", size_bytes, md5, sha256)


# MD5: the page above. SHA-256: Keras for the Python editions (keras/src/datasets), TensorFlow Datasets for the binary
# ones (url_checksums).
CIFAR10 = Cifar(
    "cifar10",
    (
        Edition(
            "cifar-10-batches-bin",
            tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test_batch.bin",
            "batches.meta.txt",
            lambda path: _binary_batch(path, label_bytes=1),
            _binary_names,
        ),
        Edition(
            "cifar-10-batches-py",
            tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test_batch",
            "batches.meta",
            lambda path: _python_batch(path, "labels"),
            lambda path: _python_names(path, "label_names"),
        ),
    ),
    (
        _remote(
            "cifar-10-python.tar.gz",
            170_498_071,
            "c58f30108f718f92721af3b95e74349a",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
        _remote(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c32a1d4ab5d03f1284b67883e8d87530",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
)
CIFAR100 = Cifar(
    "cifar100",
    (
        Edition(
            "cifar-100-binary",
            ("train.bin",),
            "test.bin",
            "fine_label_names.txt",
            lambda path: _binary_batch(path, label_bytes=2),
            _binary_names,
        ),
        Edition(
            "cifar-100-python",
            ("train",),
            "test",
            "meta",
            lambda path: _python_batch(path, "fine_labels"),
            lambda path: _python_names(path, "fine_label_names"),
        ),
    ),
    (
        _remote(
            "cifar-100-python.tar.gz",
            169_001_437,
            "eb9058c3a382ffc7106e4002c42a8d85",
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        ),
        _remote(
            "cifar-100-binary.tar.gz",
            168_513_733,
            "03b5dce01913d631647c71ecec9e9cb8",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
)
