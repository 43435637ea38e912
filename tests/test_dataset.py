"""`Dataset`, `Splits`, and the functions over labels and pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import making
from peregrine.dataset import Dataset, Selection, Splits, at_once, channel_statistics, stratified_split
from peregrine.errors import DataError


def dataset(count: int = 12, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0, size: int = 4) -> Dataset:
    ids = np.array([f"{seed}/{index}" for index in range(count)])
    return Dataset(making.images(count, size, seed), np.arange(count) % len(names), ids, names)


# --- what is refused ------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "images": np.zeros((2, 4, 4, 3), np.uint8),
    "labels": np.array([0, 1]),
    "ids": np.array(["x", "y"]),
    "class_names": ("a", "b"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3))}, r"images are uint8 \(N, H, W, 3\); got float64 \(2, 4, 4, 3\)"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, r"images are uint8 .*; got uint8 \(2, 3, 4, 4\)"),
        ({"labels": np.array([0, 1], np.int32)}, r"labels are int64 \(N,\) .* of 2 images; got labels int32 \(2,\)"),
        ({"labels": np.array([0])}, r"labels are int64 .* got labels int64 \(1,\)"),
        ({"ids": np.array(["x"])}, r"and ids \(1,\)"),
        ({"class_names": ("a", "a")}, r"class names differ from each other; got a, a"),
        ({"labels": np.array([0, 2])}, r"labels are 0 to 1; got 0 to 2"),
        ({"labels": np.array([-1, 0])}, r"labels are 0 to 1; got -1 to 0"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    Dataset(**GOOD)
    with pytest.raises(DataError, match=message):
        Dataset(**GOOD | change)


def test_may_be_empty() -> None:
    empty = dataset().subset([])
    assert len(empty) == 0
    assert empty.counts.tolist() == [0, 0, 0]


# --- parts and orders -----------------------------------------------------------------------------------------------


def test_counts_and_subset() -> None:
    part = dataset(7).subset([6, 0, 3])
    assert part.ids.tolist() == ["0/6", "0/0", "0/3"]
    assert part.counts.tolist() == [3, 0, 0]
    assert part.image_size == (4, 4)


def test_in_class_order() -> None:
    data = dataset(names=("cat", "dog", "ape"))
    turned = data.in_class_order(["ape", "cat", "dog", "eel"])
    assert turned.labels[:3].tolist() == [1, 2, 0]
    assert [turned.class_names[label] for label in turned.labels] == [data.class_names[label] for label in data.labels]
    assert turned.fingerprint == data.fingerprint
    assert turned.ordered_fingerprint == data.ordered_fingerprint
    assert data.in_class_order(data.class_names) is data
    with pytest.raises(DataError, match="the model knows the classes cat, dog; the data has others: ape"):
        data.in_class_order(["cat", "dog"])


def test_of_larger_images_fewer_are_worked_on_at_once() -> None:
    assert [at_once(500, size) for size in (8, 32, 64)] == [500, 500, 500]
    assert [at_once(500, size) for size in (65, 96, 128, 224, 512)] == [484, 222, 125, 40, 7]
    assert at_once(64, 512) == 1
    assert at_once(3, 512) == 1
    assert [at_once(500, size, side=32) for size in (32, 64, 224)] == [500, 125, 10]


def test_parts_by_name() -> None:
    splits = Splits(dataset(), None, dataset(seed=1))
    assert splits.part("train") is splits.train
    assert splits.part("test") is splits.test
    with pytest.raises(DataError, match="validation"):
        splits.part("validation")
    with pytest.raises(DataError, match="tset"):
        splits.part("tset")


# --- the fingerprint ------------------------------------------------------------------------------------------------


def test_fingerprint_is_of_the_content() -> None:
    data = dataset()
    order = np.random.default_rng(1).permutation(len(data))
    assert data.subset(order).fingerprint == data.fingerprint
    assert Dataset(data.images, data.labels, data.ids[::-1], data.class_names).fingerprint == data.fingerprint
    assert len(data.fingerprint) == 64


def test_the_ordered_fingerprint_sees_the_order_of_the_images() -> None:
    data = dataset()
    assert data.subset(np.arange(12)).ordered_fingerprint == data.ordered_fingerprint
    assert data.subset([1, 0, *range(2, 12)]).ordered_fingerprint != data.ordered_fingerprint
    assert dataset(seed=1).ordered_fingerprint != data.ordered_fingerprint


def test_fingerprint_is_the_same_for_a_memory_map(tmp_path: Path) -> None:
    data = dataset()
    np.save(tmp_path / "images.npy", data.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert Dataset(mapped, data.labels, data.ids, data.class_names).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda d: Dataset(d.images ^ np.uint8(1), d.labels, d.ids, d.class_names),
        lambda d: Dataset(d.images, d.labels[::-1].copy(), d.ids, d.class_names),
        lambda d: Dataset(d.images, d.labels, d.ids, ("a", "b", "d")),
        lambda d: Dataset(d.images.reshape(-1, 2, 8, 3), d.labels, d.ids, d.class_names),
        lambda d: d.subset(range(len(d) - 1)),
        lambda d: d.subset([*range(len(d)), 0]),
    ],
)
def test_fingerprint_sees_every_change(change: Callable[[Dataset], Dataset]) -> None:
    assert change(dataset()).fingerprint != dataset().fingerprint


def test_fingerprint_never_changes() -> None:
    """Runs and manifests hold it, so it has to be the same in every version."""
    pixels = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    data = Dataset(pixels, np.array([1, 0]), np.array(["x", "y"]), ("a", "b"))
    assert data.fingerprint == "0e482b06d1ffdfb2ee258b07319d63f63456d34d1f1efd87a6fda5625e85cf08"


# --- parts of what is not in memory ---------------------------------------------------------------------------------


def mapped(path: Path, data: Dataset) -> Dataset:
    np.save(path, data.images)
    return Dataset(np.load(path, mmap_mode="r"), data.labels, data.ids, data.class_names)


@pytest.mark.parametrize("key", [2, -1, np.int64(1), slice(1, 4), slice(None), np.array([3, 0, 3]), np.array([], int)])
def test_a_selection_is_indexed_like_an_array(key: Any, tmp_path: Path) -> None:
    data = dataset()
    order = [7, 0, 3, 11, 3]
    expected, found = data.images[order], mapped(tmp_path / "images.npy", data).subset(order).images
    assert isinstance(found, Selection)
    assert found[key].dtype == np.uint8
    np.testing.assert_array_equal(found[key], expected[key])


def test_a_selection_tells_its_size_and_gives_its_images(tmp_path: Path) -> None:
    data = mapped(tmp_path / "images.npy", dataset())
    part = data.subset([5, 2, 9]).subset([2, 0])
    expected = dataset().images[[9, 5]]
    assert isinstance(part.images, Selection)
    assert (len(part.images), part.images.shape, part.images.nbytes) == (2, expected.shape, expected.nbytes)
    assert part.ids.tolist() == ["0/9", "0/5"]
    np.testing.assert_array_equal(np.asarray(part.images), expected)
    np.testing.assert_array_equal(np.stack(list(part.images)), expected)
    assert part.fingerprint == dataset().subset([9, 5]).fingerprint
    assert channel_statistics(part.images) == channel_statistics(expected)
    with pytest.raises(IndexError):
        part.images[2]


def test_slices(tmp_path: Path) -> None:
    """Of an array and of a map they are views, of a selection another one."""
    data, on_disk = dataset(), mapped(tmp_path / "images.npy", dataset())
    assert np.shares_memory(data.subset(slice(2, 5)).images, data.images)
    assert isinstance(on_disk.subset(slice(2, 5)).images, np.memmap)
    assert isinstance(on_disk.subset(range(12)).subset(slice(2, 5)).images, Selection)
    for whole in (data, on_disk, on_disk.subset(range(12))):
        assert whole.subset(slice(2, 5)).fingerprint == data.subset([2, 3, 4]).fingerprint


# --- splitting ------------------------------------------------------------------------------------------------------


def test_stratified_split() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 2])
    large, small = stratified_split(labels, 0.1, seed=3)
    assert np.array_equal(np.sort(np.concatenate([large, small])), np.arange(112))
    assert np.array_equal(large, np.sort(large))
    assert np.array_equal(small, np.sort(small))
    assert np.bincount(labels[small]).tolist() == [10, 1, 1]
    again, other = stratified_split(labels, 0.1, seed=3)[1], stratified_split(labels, 0.1, seed=4)[1]
    assert np.array_equal(small, again)
    assert not np.array_equal(small, other)


def test_split_keeps_one_on_each_side() -> None:
    labels = np.repeat([0, 1], [2, 3])
    for fraction in (0.01, 0.99):
        large, small = stratified_split(labels, fraction, seed=0)
        assert set(labels[large]) == set(labels[small]) == {0, 1}
    large, small = stratified_split(np.array([0, 0, 1]), 0.5, seed=0)  # one image cannot be on both
    assert 2 in large
    assert [len(part) for part in stratified_split(np.empty(0, np.int64), 0.5, seed=0)] == [0, 0]


# --- statistics -----------------------------------------------------------------------------------------------------


def test_channel_statistics_are_exact_across_blocks() -> None:
    pixels = making.images(50, 300)
    mean, std = channel_statistics(pixels)
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-9)
    assert channel_statistics(np.full((2, 2, 2, 3), 7, np.uint8)) == ([7.0] * 3, [0.0] * 3)
