"""What whitening promises: patches without correlation, the strongest directions first, and no sign of chance."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from peregrine.engines.whitening import filter_count, whitening_filters


def photos(grey: bool = False) -> npt.NDArray[np.float32]:
    """Smooth random images, normalised: neighbouring pixels and colours are related, as in photos."""
    noise = np.random.default_rng(0).normal(size=(200, 12, 12, 3))
    smooth = patches(noise, 3).mean((-1, -2)) + 0.3 * noise[:, 1:-1, 1:-1, :1]
    smooth = smooth[..., :1].repeat(3, axis=3) if grey else smooth
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def patches(images: Any, side: int) -> Any:
    """All patches of every channel, `(n, H', W', 3, side, side)`."""
    return np.lib.stride_tricks.sliding_window_view(images, (side, side), (1, 2))


@pytest.mark.parametrize(("grey", "count"), [(False, 24), (True, 8)])
def test_whitened_patches_are_uncorrelated_with_variance_one(grey: bool, count: int) -> None:
    images = photos(grey)
    assert filter_count(images, 2) == count
    filters = whitening_filters(images, 2, count)
    assert filters.shape == (count, 3, 2, 2)
    np.testing.assert_array_equal(filters[: count // 2], -filters[count // 2 :])
    whitened = np.einsum("nyxcij,fcij->fnyx", patches(images, 2), filters[: count // 2]).reshape(count // 2, -1)
    moments = whitened @ whitened.T / whitened.shape[1]
    # SHRINKAGE takes a little off the faint directions
    np.testing.assert_allclose(moments, np.eye(count // 2), atol=0.02)


def test_fewer_filters_are_the_strongest_directions() -> None:
    images = photos()
    np.testing.assert_array_equal(whitening_filters(images, 2, 8)[:4], whitening_filters(images, 2, 24)[:4])


def test_signs_do_not_depend_on_the_library() -> None:
    filters = whitening_filters(photos(), 2, 24)[:12].reshape(12, -1)
    assert (np.take_along_axis(filters, np.abs(filters).argmax(1)[:, None], 1) > 0).all()


def test_images_of_one_colour_support_none() -> None:
    assert filter_count(np.zeros((5, 8, 8, 3), np.float32), 2) == 0
