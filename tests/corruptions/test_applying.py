"""All corruptions: what they take and give, that a seed is enough, and that severity is severity."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from peregrine.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from peregrine.dataset import Images
from peregrine.errors import UsageError


def photographs(count: int, size: int) -> Images:
    """Cut out of two real photographs, uint8 `(count, size, size, 3)`."""
    random = np.random.default_rng(0)
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    side = max(96, size)
    cuts = []
    for index in range(count):
        photo = photos[index % 2]
        top, left = (int(random.integers(0, length - side)) for length in photo.shape[:2])
        cuts.append(np.asarray(Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size))))
    return np.stack(cuts)


PHOTOS = photographs(40, 32)


def test_the_papers_fifteen() -> None:
    assert " ".join(CORRUPTIONS) == (
        "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog "
        "brightness contrast elastic_transform pixelate jpeg_compression"
    )
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_pixels(name: str) -> None:
    before = PHOTOS.copy()
    once = corrupt(PHOTOS, name, 3, seed=5)
    assert (once.dtype, once.shape) == (np.uint8, PHOTOS.shape)
    assert not np.shares_memory(once, PHOTOS)
    np.testing.assert_array_equal(PHOTOS, before)
    np.testing.assert_array_equal(once, corrupt(PHOTOS, name, 3, seed=5))
    drawn = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert (once != corrupt(PHOTOS, name, 3, seed=6)).any() == drawn
    assert (once != PHOTOS).any()


@pytest.mark.parametrize("size", [8, 12, 16, 33, 64, 150])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_square_size_and_any_number(name: str, size: int) -> None:
    images = photographs(2, size)
    for severity in SEVERITIES:
        assert corrupt(images, name, severity).shape == images.shape
    assert corrupt(images[:0], name, 5).shape == (0, size, size, 3)
    read_only = np.asarray(images[::-1])
    read_only.setflags(write=False)
    assert corrupt(read_only, name, 5).shape == images.shape


# By the published numbers these do not get further away at each step: at 32 pixels the streak of motion 4 is that of 3,
# glass 4 smooths less than 3, frost 4 is as thick as 3 on a darker image, and elastic 1 moves the whole image most.
UNEVEN = ("motion_blur", "glass_blur", "snow", "frost", "elastic_transform")


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNEVEN])
def test_more_severe_is_further_from_the_image(name: str, size: int) -> None:
    images = PHOTOS if size == 32 else photographs(20, size)
    assert np.all(np.diff(distances(images, name)) > 0)


@pytest.mark.parametrize("name", UNEVEN)
def test_the_severest_is_further_than_the_mildest(name: str) -> None:
    found = distances(PHOTOS, name)
    assert min(found) > 0
    assert found[4] > found[0] or name == "elastic_transform"


def distances(images: Images, name: str) -> list[float]:
    return [float(((corrupt(images, name, severity) - images.astype(float)) ** 2).mean()) for severity in SEVERITIES]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_by_all_sides(name: str) -> None:
    """A flat grey image stays within what the corruption's own light and noise add: no seam, no overflow."""
    grey = np.full((4, 32, 32, 3), 128, np.uint8)
    for severity in SEVERITIES:
        found = corrupt(grey, name, severity).astype(int)
        if "blur" in name or name in ("contrast", "elastic_transform", "pixelate", "jpeg_compression"):
            assert np.abs(found - 128).max() <= 1
        elif name == "brightness":
            assert (found.min(), found.max()) == (found[0, 0, 0, 0],) * 2


def test_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="unknown corruption 'gausian_noise'; did you mean 'gaussian_noise'"):
        corrupt(PHOTOS, "gausian_noise", 1)
    with pytest.raises(UsageError, match="severity is 1 to 5; got 6"):
        corrupt(PHOTOS, "fog", 6)
    with pytest.raises(UsageError, match="square images; got 32×16 pixels"):
        corrupt(PHOTOS[:, :, :16], "fog", 1)
