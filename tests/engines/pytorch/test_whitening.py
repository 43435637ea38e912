import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.engines.pytorch.whitening import filter_count, whitening_filters

pytestmark = pytest.mark.torch


def photos(grey: bool = False) -> torch.Tensor:
    """Smooth random images, normalised: neighbouring pixels and colours are related, as in photos."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 3, 12, 12))).float()
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1) + 0.3 * noise[:, :1, 1:-1, 1:-1]
    smooth = smooth[:, :1].repeat(1, 3, 1, 1) if grey else smooth
    return (smooth - smooth.mean()) / smooth.std()


@pytest.mark.parametrize(("grey", "count"), [(False, 24), (True, 8)])
def test_whitened_patches_are_uncorrelated_with_variance_one(grey: bool, count: int) -> None:
    images = photos(grey)
    assert filter_count(images, 2) == count
    filters = whitening_filters(images, 2, count)
    assert filters.shape == (count, 3, 2, 2)
    assert torch.equal(filters[: count // 2], -filters[count // 2 :])
    whitened = torch.nn.functional.conv2d(images, filters[: count // 2]).transpose(0, 1).flatten(1)
    moments = whitened @ whitened.T / whitened.shape[1]
    # SHRINKAGE takes a little off the faint directions
    torch.testing.assert_close(moments, torch.eye(count // 2), atol=0.02, rtol=0)


def test_fewer_filters_are_the_strongest_directions() -> None:
    images = photos()
    every, some = whitening_filters(images, 2, 24), whitening_filters(images, 2, 8)
    assert torch.equal(some[:4], every[:4])


def test_signs_do_not_depend_on_the_library() -> None:
    filters = whitening_filters(photos(), 2, 24)[:12].flatten(1)
    largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_images_of_one_colour_support_none() -> None:
    assert filter_count(torch.zeros(5, 3, 8, 8), 2) == 0
