"""What arrays compute is the same at every place: on NumPy, on the standard alone, and on a GPU.

Where sums are of whole numbers, to the bit. The tolerances of the rest stand at the functions, and are asserted here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import making
import places
from peregrine import arrays
from peregrine.data.checks import copies, near
from peregrine.data.checks.pool import Pool
from peregrine.data.sources import load_dataset
from peregrine.dataset import Dataset, Images, channel_statistics, packed
from peregrine.engines.whitening import patch_moments, whitening_filters


@pytest.fixture(params=places.PLACES)
def place(request: pytest.FixtureRequest) -> arrays.Place:
    return places.at(request.param)


@pytest.fixture(params=["array", "map", "selection"])
def images(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same 20 images as an array, a memory map and a selection of one; in several blocks."""
    monkeypatch.setattr("peregrine.dataset.MEASURED_PIXELS", 7 * 9 * 9)
    if request.param == "array":
        return pixels()
    np.save(tmp_path / "images.npy", pixels(40) if request.param == "selection" else pixels())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = Dataset(mapped, np.zeros(len(mapped), np.int64), np.arange(len(mapped)).astype(str), ("a",))
    return data.images if request.param == "map" else data.subset(range(20)).images


def pixels(count: int = 20) -> Images:
    return making.images(40, 9)[:count]


def test_statistics_are_the_same_to_the_bit(images: Any, place: arrays.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = channel_statistics(pixels())
    np.testing.assert_allclose(expected[0], pixels().mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(expected[1], pixels().std((0, 1, 2)), rtol=1e-12)
    monkeypatch.setattr(arrays, "choose", lambda task, amount: place)
    assert channel_statistics(images) == expected
    assert channel_statistics(packed(images, place), place) == expected


def test_statistics_of_what_is_there_already_come_in_pieces(place: arrays.Place) -> None:
    data = making.images(50, 3)
    assert channel_statistics(place.bring(data), place) == channel_statistics(data)


def test_packed_images_are_the_images(images: Any, place: arrays.Place) -> None:
    found = packed(images, place)
    assert found.shape == (20, 9, 9, 3)
    np.testing.assert_array_equal(place.fetch(found), pixels())
    assert place.fetch(found).dtype == np.uint8


def test_on_the_cpu_packing_copies_nothing_that_is_an_array() -> None:
    there = pixels()
    assert np.shares_memory(packed(there, arrays.CPU), there)


def test_planes_become_pixels(place: arrays.Place) -> None:
    planes = np.ascontiguousarray(pixels().transpose(0, 3, 1, 2))
    found = arrays.planes_to_pixels(planes, place)
    np.testing.assert_array_equal(found, pixels())
    assert found.dtype == np.uint8
    if place is arrays.CPU:
        assert np.shares_memory(found, planes)


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_whitening_moments_agree_to_1e_12(
    patch: int, kind: type[Any], place: arrays.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peregrine.engines.whitening._PIXELS_AT_ONCE", 7 * 9 * 9)
    values = ((pixels() - 127.5) / 70).astype(kind)
    windows = np.lib.stride_tricks.sliding_window_view(values.astype(np.float64), (patch, patch), (1, 2))
    flat = windows.reshape(-1, 3 * patch**2)
    found = patch_moments(values, patch, place)
    expected = flat.T @ flat / len(flat)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())


def test_whitening_filters_agree(place: arrays.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs are fixed, so filters can be compared; of directions that differ as clearly as those of photos."""
    values = making.scenes(50).astype(np.float32) / 64 - 2
    expected = whitening_filters(values, 2, 8)
    monkeypatch.setattr(arrays, "choose", lambda task, amount: place)
    np.testing.assert_allclose(whitening_filters(values, 2, 8), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_same_copies_are_proposed(place: arrays.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with few and with many pairs, more of one image than are kept, and equal ones."""
    monkeypatch.setattr(near, "_ROWS", 100)
    generator = np.random.default_rng(0)
    hashes = generator.normal(size=(330, 95))
    hashes[100:130] = hashes[5] + 0.3 * generator.normal(size=(30, 95))
    hashes[200] = hashes[299] = hashes[17]
    hashes = (hashes / np.linalg.norm(hashes, axis=1, keepdims=True)).astype(np.float32)
    found = near.propose(hashes, place)
    np.testing.assert_array_equal(found, near.propose(hashes, arrays.CPU))
    assert {(17, 200), (17, 299), (200, 299)} <= set(map(tuple, found.tolist()))
    assert (found[:, 0] < found[:, 1]).all()
    assert (found[:, 0] == 5).sum() == 20
    cosines = (hashes[found[:, 0]] * hashes[found[:, 1]]).sum(1)
    assert cosines.min() > near.PROPOSED - 1e-3
    close = np.triu(hashes @ hashes.T, 1) > near.PROPOSED + 1e-3
    close[close.sum(1) > 20] = False
    assert close.sum() > 50
    assert set(map(tuple, np.argwhere(close).tolist())) <= set(map(tuple, found.tolist()))


def test_products_of_hashes_are_whole_and_exact_in_any_order() -> None:
    """The largest sum that can be, and TF32's 11 bits for each factor."""
    longest = near._STEPS + np.sqrt(95) / 2  # each number rounded by up to a half
    assert longest**2 < 2**24
    assert near._STEPS < 2**11


# ---- the whole way, with a GPU that is pretended --------------------------------------------------------------------


def test_a_data_set_is_the_same_with_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.cifar10_binary(tmp_path / "cifar")
    expected = load_dataset(tmp_path / "cifar")
    statistics = channel_statistics(expected.train.images)
    places.pretend_gpu(monkeypatch)
    found = load_dataset(tmp_path / "cifar")
    assert found.train.fingerprint == expected.train.fingerprint
    assert found.train.images.flags.c_contiguous
    assert channel_statistics(found.train.images) == statistics


def test_copies_are_the_same_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = making.scenes(100), making.scenes(40, seed=1)
    test[:10] = np.clip(train[:10] * 1.2 + 5, 0, 255).astype(np.uint8)
    pool = Pool(making.splits(train, test))
    expected = copies.find(pool, copies.NEAR)
    assert len(expected[0].cases) == 10
    places.pretend_gpu(monkeypatch)
    assert copies.find(pool, copies.NEAR) == expected
