import numpy as np
import pytest

from peregrine.errors import UsageError
from peregrine.tta import VIEWS, check_tta, combine, least_certain, other_views


def test_the_views_of_an_image() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
    mirrored, up, up_mirrored, down, down_mirrored = (view[0, :, :, 0].tolist() for view in other_views(image, "full"))
    assert mirrored == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert up == [[4, 5, 4], [7, 8, 7], [4, 5, 4]]
    assert down == [[4, 3, 4], [1, 0, 1], [4, 3, 4]]
    assert up_mirrored == [row[::-1] for row in up]
    assert down_mirrored == [row[::-1] for row in down]
    assert [view[0, :, :, 0].tolist() for view in other_views(image, "flip")] == [mirrored]
    assert list(other_views(image, "none")) == []


@pytest.mark.parametrize("name", VIEWS)
def test_weights_sum_to_one_and_the_image_itself_comes_first(name: str) -> None:
    assert sum(view.weight for view in VIEWS[name]) == 1
    assert VIEWS[name][0][:2] == (0, False)


def test_the_unshifted_pair_weighs_as_much_as_both_others() -> None:
    pairs = {shift: sum(v.weight for v in VIEWS["full"] if v.shift == shift) for shift in (-1, 0, 1)}
    assert pairs == {-1: 0.25, 0: 0.5, 1: 0.25}


def test_probabilities_of_zero_stay_numbers() -> None:
    certain, other = np.array([[1.0, 0.0, 0.0]], np.float32), np.array([[0.0, 1.0, 0.0]], np.float32)
    np.testing.assert_allclose(combine([certain, certain], "flip"), certain, atol=1e-7)
    np.testing.assert_allclose(combine([certain, other], "flip"), [[0.5, 0.5, 0.0]], atol=1e-7)


def test_the_least_certain() -> None:
    confidence = np.array([0.9, 0.5, 0.8, 0.5, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert least_certain(probabilities, 0.4).tolist() == [1, 3]
    assert least_certain(probabilities, 0.6).tolist() == [1, 3, 4]
    assert least_certain(probabilities, 0).tolist() == []
    assert least_certain(probabilities, 1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "share", "words"),
    [
        ("ful", 1.0, "tta is one of none, flip, full; got 'ful'; did you mean 'full'?"),
        ("flip", 1.5, "within 0 to 1; got 1.5"),
        ("flip", float("nan"), "within 0 to 1; got nan"),
        ("none", 0.25, "got 0.25 with none; use flip or full"),
    ],
)
def test_what_there_is_not(name: str, share: float, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_tta(name, share)
    assert words in str(raised.value)
