"""What is done to pixels before somebody's model sees them."""

from typing import Any

import numpy as np
import pytest

import tiny
from peregrine.errors import UsageError
from peregrine.foreign.pixels import Pixels, alternatives, own_statistics, parse_number, parse_numbers

IMAGENET = Pixels(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = Pixels("bgr", mean=(103.939, 116.779, 123.68))


def test_by_hand_and_as_one_product_and_sum() -> None:
    images = tiny.images(5)
    for pixels in (IMAGENET, CAFFE, Pixels()):
        factor, offset = pixels.factors()
        ordered = images[..., ::-1] if pixels.channels == "bgr" else images
        np.testing.assert_allclose(pixels.apply(images), ordered * factor + offset, rtol=1e-5, atol=2e-5)
    red = CAFFE.apply(np.full((1, 1, 1, 3), [255, 0, 0], np.uint8))
    np.testing.assert_allclose(red[0, 0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-6)


def test_flipped_treats_each_colour_the_same() -> None:
    images = tiny.images(3)
    np.testing.assert_array_equal(IMAGENET.flipped().apply(images), IMAGENET.apply(images)[..., ::-1])
    assert IMAGENET.flipped().flipped() == IMAGENET


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (Pixels(), "--scale 1"),
        (IMAGENET, "--scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (CAFFE, "--channels bgr --mean 103.939,116.779,123.68"),
        (Pixels(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)), "--scale 1/127.5 --mean 1"),
        (Pixels(scale=0.3), "--scale 0.3"),
    ],
)
def test_the_options_say_it_all(pixels: Pixels, options: str) -> None:
    assert pixels.options() == options
    words = dict(zip(options.split()[::2], options.split()[1::2], strict=True))
    again = Pixels.of(
        words.get("--channels", "rgb"),
        parse_number(words.get("--scale", "1"), "--scale"),
        parse_numbers(words.get("--mean", "0"), "--mean"),
        parse_numbers(words.get("--std", "1"), "--std"),
    )
    assert again == pixels
    assert Pixels.from_dict(pixels.to_dict()) == pixels


def test_what_is_tried_has_no_doubles_and_not_what_was_given() -> None:
    own = own_statistics([120.0, 110.0, 100.0], [60.0, 60.0, 60.0])
    assert own.options() == "--scale 1/255 --mean 0.4706,0.4314,0.3922 --std 0.2353"
    tried = alternatives(IMAGENET, own, takes_pixels=False)
    assert IMAGENET not in tried
    assert {CAFFE, Pixels(), own, IMAGENET.flipped()} <= set(tried)
    assert len(tried) == len(set(tried)) == 11
    assert alternatives(Pixels(), own, takes_pixels=True) == [Pixels("bgr")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": "brg"}, "^--channels is rgb or bgr; got 'brg'$"),
        ({"scale": 0}, "^--scale is a number above 0, such as 1/255; got 0$"),
        ({"mean": float("nan")}, "^--mean has a number per channel; got nan$"),
        ({"mean": [1, 2]}, "^--mean takes one number, or three, one for each channel; got 2$"),
        ({"std": [1, 0, 1]}, r"^--std has a number above 0 per channel; got \[1, 0, 1\]$"),
    ],
)
def test_values_that_mean_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Pixels.of(**{"channels": "rgb", "scale": 1.0, "mean": 0.0, "std": 1.0, **changes})


@pytest.mark.parametrize("text", ["x", "1/0", "", "1,2"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--scale takes numbers such as 0\.5 or 1/255; got "):
        parse_number(text, "--scale")
