"""How many whitening filters the images support, the same for both engines."""

import numpy as np
import pytest

import small_runs
from peregrine.engines.sprint import Options, resolve
from peregrine.errors import DataError, RecipeError
from peregrine.validation import validate

COLOUR = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
GREY = small_runs.patterns(50, 0, grey=True).images


def test_auto_takes_all_that_the_images_support() -> None:
    assert resolve(Options(), COLOUR).whitening == 24
    assert resolve(Options(), GREY).whitening == 8
    assert resolve(Options(whitening=4), GREY).whitening == 4


def test_more_filters_than_directions() -> None:
    with pytest.raises(RecipeError, match=r"model\.whitening is at most 8 for these images.*got 24; use --set"):
        resolve(Options(whitening=24), GREY)


def test_images_of_one_colour_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match="training needs images that differ; every pixel of these has the same colour"):
        resolve(Options(), np.full((9, 8, 8, 3), 7, np.uint8))


def test_depth_is_one_number_or_one_for_each_group() -> None:
    assert Options(depth=3).depths == (3, 3, 3)
    assert validate(Options, {"depth": [2, 2, 3]}, "[model]").depths == (2, 2, 3)
    with pytest.raises(RecipeError, match=r"depth has one number for each of widths, or one for all; got \[2, 3\] for"):
        validate(Options, {"depth": [2, 3]}, "[model]")
