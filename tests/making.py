"""Tiny data sets in real formats, for tests."""

import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image
from scipy import ndimage

from peregrine.dataset import Dataset, Images, Labels, Splits

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(f"fine{number:02d}" for number in range(100))


def images(count: int, size: int = 32, seed: int = 0) -> Images:
    """Random pixels, uint8 `(count, size, size, 3)`."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def cifar10_binary(folder: Path, per_batch: int = 10) -> tuple[Images, Labels]:
    """Write CIFAR-10's binary layout; gives what is in it, training first."""
    pixels, labels = images(6 * per_batch), np.arange(6 * per_batch) % 10
    folder.mkdir(parents=True)
    for name, part in _cifar10_parts(per_batch):
        records = [bytes([labels[i]]) + pixels[i].transpose(2, 0, 1).tobytes() for i in part]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n\n")
    return pixels, labels


def cifar10_python(folder: Path, per_batch: int = 10, protocol: int = 2) -> tuple[Images, Labels]:
    """Write CIFAR-10's Python layout with the same content as `cifar10_binary`."""
    pixels, labels = images(6 * per_batch), np.arange(6 * per_batch) % 10
    folder.mkdir(parents=True)
    for name, part in _cifar10_parts(per_batch):
        content = {"data": planar(pixels[part]), "labels": labels[part].tolist(), "batch_label": "a batch"}
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}, protocol))
    return pixels, labels


def cifar100_binary(folder: Path, train: int = 200, test: int = 100) -> tuple[Images, Labels]:
    """Write CIFAR-100's binary layout."""
    pixels, labels = images(train + test), np.arange(train + test) % 100
    folder.mkdir(parents=True)
    for name, part in (("train", range(train)), ("test", range(train, train + test))):
        records = [bytes([labels[i] // 5, labels[i]]) + pixels[i].transpose(2, 0, 1).tobytes() for i in part]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "fine_label_names.txt").write_text("\n".join(CIFAR100_CLASSES) + "\n")
    return pixels, labels


def cifar100_python(folder: Path, train: int = 200, test: int = 100) -> tuple[Images, Labels]:
    """Write CIFAR-100's Python layout with the same content as `cifar100_binary`."""
    pixels, labels = images(train + test), np.arange(train + test) % 100
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, train)), ("test", slice(train, train + test))):
        content: dict[str, Any] = {"data": planar(pixels[part]), "fine_labels": labels[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(content, 2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CIFAR100_CLASSES)}, 2))
    return pixels, labels


def photos(
    folder: Path,
    classes: Sequence[str] = ("cat", "dog"),
    each: int = 5,
    size: int = 16,
    suffix: str = ".png",
    seed: int = 0,
) -> Path:
    """Write a folder per class with `each` images of random pixels."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index, pixels in enumerate(images(each, size, seed=100 * seed + number)):
            Image.fromarray(pixels).save(folder / name / f"{index}{suffix}")
    return folder


def split_photos(folder: Path, splits: Sequence[str] = ("train", "test"), **settings: Any) -> Path:
    """Write `photos` into a folder per split, each with pixels of its own."""
    for number, split in enumerate(splits):
        photos(folder / split, seed=number, **settings)
    return folder


def planar(pixels: Images) -> Images:
    """Images as CIFAR stores them: uint8 `(N, 3072)`, all red, then all green, then all blue."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def _cifar10_parts(per_batch: int) -> list[tuple[str, range]]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return [(name, range(index * per_batch, (index + 1) * per_batch)) for index, name in enumerate(names)]


def parquet(
    path: Path,
    items: Sequence[tuple[bytes, Any]],
    names: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """Write encoded images with their labels as the Hugging Face hub does; without `names` there is no metadata."""
    image, label = columns
    features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names or ())}}
    cells = [{"bytes": content, "path": None} for content, _ in items]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.table({image: pyarrow.array(cells, kind), label: [value for _, value in items]})
    if names is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    return path


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write a tar file of these names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def encoded(count: int, size: int = 16, seed: int = 0, format: str = "PNG") -> list[bytes]:
    """Encoded images of random pixels."""
    contents = []
    for pixels in images(count, size, seed):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format)
        contents.append(buffer.getvalue())
    return contents


def parquet_shards(folder: Path) -> Path:
    """Write two training shards and one for the test, with two classes of 16 pixels."""
    items = [(content, index % 2) for index, content in enumerate(encoded(30))]
    for name, part in (
        ("train-00000-of-00002", items[:10]),
        ("train-00001-of-00002", items[10:20]),
        ("test-00000-of-00001", items[20:]),
    ):
        parquet(folder / "data" / f"{name}.parquet", part, ("cat", "dog"))
    return folder


def tar_shards(folder: Path) -> Path:
    """Write the content of `parquet_shards` as WebDataset."""
    for name, numbers in (("train-000000", range(10)), ("train-000001", range(10, 20)), ("test-000000", range(20, 30))):
        contents = encoded(30)
        members = [
            member
            for number in numbers
            for member in ((f"{number:04d}.png", contents[number]), (f"{number:04d}.cls", str(number % 2).encode()))
        ]
        tar(folder / f"{name}.tar", members)
    (folder / "classnames.txt").write_text("cat\ndog\n")
    return folder


def csv_file(folder: Path) -> Path:
    """Write the content of `parquet_shards` as files that a CSV file lists; gives that."""
    folder.mkdir(parents=True)
    lines = ["path,label,split"]
    for number, content in enumerate(encoded(30)):
        (folder / f"{number}.png").write_bytes(content)
        lines.append(f"{number}.png,{('cat', 'dog')[number % 2]},{'train' if number < 20 else 'test'}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"


def scenes(count: int, size: int = 32, seed: int = 0) -> Images:
    """Pictures with forms, colours and details, as photos have: blurred noise, uint8 `(count, size, size, 3)`."""
    generator = np.random.default_rng(seed)
    pixels = np.full((count, size, size, 3), 128.0)
    for width, strength, channels in ((4, 15, 3), (4, 30, 1), (2, 20, 1), (1, 10, 1)):
        noise = generator.normal(size=(count, size, size, channels))
        noise = ndimage.gaussian_filter(noise, (0, width, width, 0), mode="wrap")
        pixels += strength * noise / noise.std()
    return np.clip(pixels, 0, 255).astype(np.uint8)


def splits(train: Images, test: Images, labels: Labels | None = None, classes: int = 2) -> Splits:
    """Splits of these images with labels in turn, or with these, training first; ids `train/0` and `test/0`."""
    parts = []
    for name, images, own in (
        ("train", train, None if labels is None else labels[: len(train)]),
        ("test", test, None if labels is None else labels[len(train) :]),
    ):
        ids = np.array([f"{name}/{index}" for index in range(len(images))])
        given = np.arange(len(images)) % classes if own is None else own
        parts.append(
            Dataset(images, given.astype(np.int64), ids, tuple(f"class {number}" for number in range(classes)))
        )
    return Splits(parts[0], None, parts[1])
