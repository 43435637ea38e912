"""Pictures for event files: their pixels stand where they should, whatever the number of images and classes."""

import numpy as np
import pytest

from peregrine.engines.pictures import GRID_GAP, INK, MATRIX_SIDE, NAMED_CLASSES, confusion_matrix, grid

GAP = GRID_GAP


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, side, side, 3), np.uint8)


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    images = noise(36, 32)
    picture = grid(images)
    side = 2 * 32
    assert picture.dtype == np.uint8
    assert picture.shape == (6 * (side + GAP) + GAP, 6 * (side + GAP) + GAP, 3)
    for place in (0, 1, 6, 35):
        top, left = GAP + place // 6 * (side + GAP), GAP + place % 6 * (side + GAP)
        shown = picture[top : top + side, left : left + side]
        np.testing.assert_array_equal(shown, images[place].repeat(2, 0).repeat(2, 1))
    assert (picture[:GAP] == 255).all()
    assert (picture[:, side + GAP : side + 2 * GAP] == 255).all()


@pytest.mark.parametrize(
    ("count", "side", "shape"),
    [
        (1, 32, (72, 72)),  # one image alone
        (5, 8, (72, 344)),  # less than a row
        (7, 8, (140, 412)),  # a row and one
        (99, 32, (412, 412)),  # no more than 36
        (99, 96, (604, 604)),  # none is made smaller
        (99, 224, (916, 916)),  # of large ones sixteen
        (99, 512, (1036, 1036)),  # of the largest four
    ],
)
def test_the_grid_fits_what_it_shows(count: int, side: int, shape: tuple[int, int]) -> None:
    assert grid(noise(count, side)).shape == (*shape, 3)


def is_blue(colour: np.ndarray) -> bool:
    return bool(colour[2] > colour[0])


def cell(picture: np.ndarray, classes: int, row: int, column: int) -> np.ndarray:
    """The colour in the upper left corner of a cell, beside its number; the matrix ends at the lower right margin."""
    size = min(64, max(36, 400 // classes)) if classes <= NAMED_CLASSES else MATRIX_SIDE // classes
    top = picture.shape[0] - 16 - (classes - row) * size
    left = picture.shape[1] - 16 - (classes - column) * size
    return picture[top, left]


@pytest.mark.parametrize("classes", [10, NAMED_CLASSES, NAMED_CLASSES + 1, 100])
def test_right_is_blue_and_wrong_is_orange_and_more_is_darker(classes: int) -> None:
    counts = np.diag(np.full(classes, 8))
    counts[0, 0], counts[0, 2], counts[0, 3] = 4, 3, 1
    picture = confusion_matrix(counts, [f"class {number}" for number in range(classes)])
    right, most, some, none = (cell(picture, classes, 0, column) for column in (0, 2, 3, 4))
    assert is_blue(right)
    assert not any(map(is_blue, (most, some, none)))
    assert most.sum() < some.sum() < none.sum()
    assert is_blue(cell(picture, classes, classes - 1, classes - 1))
    assert cell(picture, classes, 1, 1).sum() < right.sum()


def test_names_are_written_up_to_twenty_classes() -> None:
    """Also such with letters beyond ASCII, and long ones, which are cut."""

    def letters(names: tuple[str, ...]) -> np.ndarray:
        picture = confusion_matrix(np.eye(len(names), dtype=int), names)
        return (picture[70:] == INK).all(-1)

    assert letters(("a", "b")).any()
    assert letters(("Käfer", "b")).sum() != letters(("Kafer", "b")).sum()
    assert letters(("ä", "é")).shape == letters(("ä", "ä")).shape
    assert (letters(("ä", "é")) != letters(("ä", "ä"))).any()  # no boxes for what the font lacks
    assert letters(("n" * 14, "b")).shape[1] < letters(("n" * 15, "b")).shape[1] + 20
    assert letters(("n" * 15, "b")).shape == letters(("n" * 99, "b")).shape
    assert not letters(tuple("abcdefghijklmnopqrstu")).any()


def test_classes_without_images_and_an_empty_matrix_are_drawn() -> None:
    counts = np.zeros((10, 10), int)
    assert not is_blue(cell(confusion_matrix(counts, "abcdefghij"), 10, 0, 1))
    counts[0, 0] = 1
    assert is_blue(cell(confusion_matrix(counts, "abcdefghij"), 10, 0, 0))
    assert confusion_matrix(np.eye(2, dtype=int), "ab").dtype == np.uint8


def test_a_thousand_classes_stay_on_a_screen() -> None:
    assert max(confusion_matrix(np.eye(1000, dtype=int), [str(n) for n in range(1000)]).shape) < 1200
