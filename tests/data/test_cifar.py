"""CIFAR in four layouts, whole and damaged, here and far away."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import making
from peregrine.data import cifar
from peregrine.data.base import Options
from peregrine.data.sources import load_dataset
from peregrine.dataset import Images, Labels, channel_statistics
from peregrine.errors import DamagedFile, DataError, UsageError

LAYOUTS: dict[str, tuple[Callable[[Path], tuple[Images, Labels]], tuple[str, ...]]] = {
    "cifar-10-batches-bin": (making.cifar10_binary, making.CIFAR10_CLASSES),
    "cifar-10-batches-py": (making.cifar10_python, making.CIFAR10_CLASSES),
    "cifar-100-binary": (making.cifar100_binary, making.CIFAR100_CLASSES),
    "cifar-100-python": (making.cifar100_python, making.CIFAR100_CLASSES),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_each_layout(tmp_path: Path, name: str) -> None:
    write, class_names = LAYOUTS[name]
    pixels, labels = write(tmp_path / name)
    for location in (tmp_path / name, tmp_path):
        splits = load_dataset(location)
        assert splits.source == str(location)
        assert splits.class_names == splits.test.class_names == class_names
        assert splits.validation is None
        assert splits.train.images.flags.c_contiguous
        np.testing.assert_array_equal(np.concatenate([splits.train.images, splits.test.images]), pixels)
        np.testing.assert_array_equal(np.concatenate([splits.train.labels, splits.test.labels]), labels)
        assert splits.train.ids[:2].tolist() == ["train/0", "train/1"]
        assert splits.test.ids[0] == "test/0"


def test_both_editions_have_the_same_fingerprint(tmp_path: Path) -> None:
    for kind in ("10", "100"):
        binary, python = (write for name, (write, _) in LAYOUTS.items() if name.startswith(f"cifar-{kind}-"))
        binary(tmp_path / kind / "binary")
        python(tmp_path / kind / "python")
        one, other = load_dataset(tmp_path / kind / "binary"), load_dataset(tmp_path / kind / "python")
        assert one.train.fingerprint == other.train.fingerprint != one.test.fingerprint == other.test.fingerprint


def test_other_size(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c")
    assert load_dataset(tmp_path / "c", size=24).train.images.shape == (50, 24, 24, 3)


@pytest.mark.parametrize("below", ["", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    making.cifar10_binary(tmp_path / "data" / below)
    monkeypatch.setenv("PEREGRINE_DATA", str(tmp_path / "data"))
    splits = load_dataset("cifar10")
    assert splits.source == "cifar10"
    assert len(splits.train) == 50


def test_found_in_the_cache(cache: Path) -> None:
    making.cifar100_python(cache / "datasets" / "cifar100" / "cifar-100-python")
    assert len(load_dataset("cifar100").train) == 200


def test_missing_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        UsageError, match=r"PEREGRINE_DATA names an existing folder; got '.*nowhere'; create it or unset"
    ):
        load_dataset("cifar10")


def test_truncated_batch(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c")
    os.truncate(tmp_path / "c" / "data_batch_4.bin", 30_000)
    message = (
        r"data_batch_4.bin is damaged: it holds whole records of 3,073 bytes, .* found 30,000 bytes, which is 9 records"
    )
    with pytest.raises(DamagedFile, match=message):
        load_dataset(tmp_path / "c")
    os.truncate(tmp_path / "c" / "data_batch_4.bin", 0)
    with pytest.raises(DamagedFile, match=r"data_batch_4.bin is damaged: .* at least one; found 0 bytes"):
        load_dataset(tmp_path / "c")


def test_label_out_of_range(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c")
    batch = tmp_path / "c" / "test_batch.bin"
    batch.write_bytes(b"\x0a" + batch.read_bytes()[1:])
    with pytest.raises(
        DamagedFile, match=r"test_batch.bin is damaged: labels are 0 to 9, found 1 to 10; get the official"
    ):
        load_dataset(tmp_path / "c")


def test_missing_batch(tmp_path: Path) -> None:
    making.cifar10_python(tmp_path / "c")
    (tmp_path / "c" / "data_batch_2").unlink()
    with pytest.raises(
        DamagedFile, match=r"cifar10 consists of data_batch_1, .*/c lacks data_batch_2; get the official"
    ):
        load_dataset(tmp_path / "c")


def test_class_names_that_cannot_be_shown(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c")
    names = ["\x1b[31mcat", *(f"class {number}" for number in range(9))]
    (tmp_path / "c" / "batches.meta.txt").write_text("\n".join(names) + "\n")
    with pytest.raises(DataError, match=r"a class name is printable .* got '\\x1b\[31mcat'; rename the class"):
        load_dataset(tmp_path / "c")


def test_class_names(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c")
    (tmp_path / "c" / "batches.meta.txt").write_text("cat\ncat\n")
    with pytest.raises(
        DamagedFile, match=r"batches.meta.txt is damaged: it holds two class names or more, all different"
    ):
        load_dataset(tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1]}, r"'data' is a uint8 array \(N, 3072\), found NoneType"),
        ({"data": np.zeros((2, 3072), np.int32), "labels": [1, 2]}, r"found int32 \(2, 3072\)"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, r"found uint8 \(2, 3071\)"),
        ({"data": np.zeros((2, 3072), np.uint8)}, r"'labels' has one whole number for each of the 2 images .* found 0"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, r"for each of the 2 images .* found 1;"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, r"for each of the 1 images"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [[1]]}, r"for each of the 1 images"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, r"labels are 0 to 9, found -1 to -1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, r"for each of the 1 images"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, r"at least one"),
    ],
)
def test_malformed_python_batch(tmp_path: Path, content: dict[str, object], message: str) -> None:
    making.cifar10_python(tmp_path / "c")
    (tmp_path / "c" / "data_batch_1").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(DamagedFile, match=rf"data_batch_1 is damaged: .*{message}"):
        load_dataset(tmp_path / "c")


def test_malicious_batch_runs_nothing(tmp_path: Path) -> None:
    making.cifar10_python(tmp_path / "c")
    marker = tmp_path / "executed"
    (tmp_path / "c" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(marker) + b"'\ntR.")
    with pytest.raises(DamagedFile, match=r"data_batch_1 is refused: its pickle asks for 'os.system'"):
        load_dataset(tmp_path / "c")
    assert not marker.exists()


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="holds no cifar10 batches; get the official archive"):
        cifar.CIFAR10.load_from(tmp_path, Options())
    assert not cifar.CIFAR10.recognises(tmp_path)


def test_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = REAL_DATA
    if not data:
        pytest.skip("PEREGRINE_DATA is not set: it names the folder with the real CIFAR-10")
    monkeypatch.setenv("PEREGRINE_DATA", data)
    splits = load_dataset("cifar10")
    assert splits.train.images.shape == (50_000, 32, 32, 3)
    assert splits.test.images.shape == (10_000, 32, 32, 3)
    assert splits.class_names == making.CIFAR10_CLASSES
    assert splits.train.counts.tolist() == [5_000] * 10
    assert splits.test.counts.tolist() == [1_000] * 10
    mean, std = channel_statistics(splits.train.images)
    np.testing.assert_allclose(np.array(mean) / 255, [0.4913, 0.4821, 0.4465], atol=1e-4)
    np.testing.assert_allclose(np.array(std) / 255, [0.2452, 0.2428, 0.2606], atol=1e-3)


REAL_DATA = os.environ.get("PEREGRINE_DATA")  # before the fixture hides it
