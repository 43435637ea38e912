"""What passes, what fails and what is too little to tell: DESIGN, section 5, limit by limit."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from peregrine.parity import ENOUGH_IMAGES, LIMITS, Verdict, compare

MANY = 10_000


def answers(images: int, first: float = 0.7, second: float = 0.3) -> tuple[Any, Any]:
    """An ancestor that says class 0 with `first`, class 1 with `second` and is always right; and the labels."""
    row = np.array([first, second, max(0.0, 1 - first - second)], np.float32)
    return np.tile(row, (images, 1)), np.zeros(images, np.int64)


def swapped(ancestor: Any, count: int) -> Any:
    """The first `count` answers name class 1 instead of 0."""
    changed = ancestor.copy()
    changed[:count, :2] = ancestor[:count, 1::-1]
    return changed


def judge(precision: str, images: int, wrong: int, **shape: float) -> Verdict:
    ancestor, labels = answers(images, **shape)
    return compare(ancestor, swapped(ancestor, wrong), labels, LIMITS[precision])


@pytest.mark.parametrize("precision", LIMITS)
def test_identical_answers_pass(precision: str) -> None:
    verdict = judge(precision, MANY, 0)
    assert (verdict.verdict, verdict.passed, verdict.reasons) == ("passed", True, ())
    assert (verdict.agreement, verdict.ties, verdict.disagreements) == (1, 0, 0)
    assert (verdict.max_difference, verdict.mean_difference) == (0, 0)
    assert (verdict.accuracy, verdict.ancestor_accuracy, verdict.accuracy_drop_points) == (1, 1, 0)
    assert verdict.accuracy_drop_interval == pytest.approx((0, 0), abs=0.03)
    assert verdict.limits == LIMITS[precision]


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 0.001), ("fp16", 0.02)])
def test_the_largest_difference(precision: str, limit: float) -> None:
    ancestor, labels = answers(MANY)
    for images in (MANY, 5):
        candidate = ancestor[:images].astype(np.float64)
        candidate[3, 2] += 0.99 * limit
        within = compare(ancestor[:images], candidate, labels[:images], LIMITS[precision])
        assert within.verdict == ("inconclusive" if (precision, images) == ("fp16", 5) else "passed")
        candidate[3, 2] += 0.02 * limit
        verdict = compare(ancestor[:images], candidate, labels[:images], LIMITS[precision])
        assert verdict.verdict == "failed"  # with few images too: it is no estimate
        assert verdict.reasons == (f"largest |Δp| {1.01 * limit:.3g} is above {limit}",)
        assert verdict.max_difference == pytest.approx(1.01 * limit)
        assert verdict.mean_difference == pytest.approx(1.01 * limit / images / 3)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_where_the_difference_is_not_judged(precision: str) -> None:
    ancestor, labels = answers(MANY, 0.99, 0.01)
    candidate = np.tile(np.float32([0.4, 0.3, 0.3]), (MANY, 1))
    verdict = compare(ancestor, candidate, labels, LIMITS[precision])
    assert verdict.verdict == "passed"
    assert verdict.max_difference == pytest.approx(0.59)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 0), ("fp16", 20), ("bf16", 100), ("int8", 300)])
def test_agreement(precision: str, allowed: int) -> None:
    """Exactly at the limit passes, one image more fails; the classes swapped are both wrong, so accuracy is equal."""
    ancestor, _ = answers(MANY, 0.9, 0.1)
    labels = np.full(MANY, 2)
    limits = replace(LIMITS[precision], difference=None)
    assert compare(ancestor, swapped(ancestor, allowed), labels, limits).verdict == "passed"
    verdict = compare(ancestor, swapped(ancestor, allowed + 1), labels, limits)
    assert verdict.verdict == "failed"
    assert verdict.disagreements == allowed + 1
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(f"agreement on {MANY - allowed - 1:,} of 10,000 images (")


@pytest.mark.parametrize(("precision", "allowed"), [("bf16", 20), ("int8", 50)])
def test_accuracy_drop(precision: str, allowed: int) -> None:
    assert judge(precision, MANY, allowed).verdict == "passed"
    verdict = judge(precision, MANY, allowed + 1)
    assert verdict.verdict == "failed"
    assert verdict.accuracy_drop_points == pytest.approx((allowed + 1) / 100)
    low, high = verdict.accuracy_drop_interval
    assert low < verdict.accuracy_drop_points < high
    limit = LIMITS[precision].drop_points
    assert verdict.reasons == (f"accuracy drops by {(allowed + 1) / 100} points, the limit is {limit}",)


def test_a_gain_is_no_drop() -> None:
    ancestor, _ = answers(MANY)
    verdict = compare(ancestor, swapped(ancestor, 200), np.ones(MANY, np.int64), LIMITS["int8"])
    assert verdict.verdict == "passed"
    assert verdict.accuracy_drop_points == -2
    assert verdict.accuracy > verdict.ancestor_accuracy


class TestTies:
    """Two classes that the ancestor gives nearly the same probability: rounding may choose either."""

    def test_within_twice_the_limit_is_a_tie(self) -> None:
        verdict = judge("fp32", MANY, 4, first=0.5004, second=0.4996)
        assert (verdict.ties, verdict.disagreements, verdict.agreement) == (4, 0, 1)
        assert verdict.verdict == "passed"
        assert verdict.accuracy_drop_points == pytest.approx(0.04)  # told, and allowed: ties alone

    def test_beyond_it_is_a_disagreement(self) -> None:
        verdict = judge("fp32", MANY, 1, first=0.5011, second=0.4989)
        assert (verdict.ties, verdict.disagreements) == (0, 1)
        assert verdict.verdict == "failed"
        assert verdict.reasons[0].startswith("largest")
        assert verdict.reasons[1] == "agreement on 9,999 of 10,000 images (99.99%) is below 100.0%"
        assert verdict.reasons[2] == "accuracy drops by 0.01 points, the limit is 0.0"

    def test_the_ancestor_decides_not_the_candidate(self) -> None:
        ancestor, labels = answers(MANY, 0.9, 0.1)
        candidate = ancestor.copy()
        candidate[0] = 0.4999, 0.5001, 0
        assert compare(ancestor, candidate, labels, LIMITS["fp32"]).disagreements == 1

    def test_fp16_has_a_wider_band_but_its_accuracy_counts_them(self) -> None:
        verdict = judge("fp16", MANY, 11, first=0.505, second=0.495)
        assert (verdict.ties, verdict.disagreements, verdict.agreement) == (11, 0, 1)
        assert verdict.verdict == "failed"
        assert verdict.reasons == ("accuracy drops by 0.11 points, the limit is 0.1",)
        assert judge("fp16", MANY, 10, first=0.505, second=0.495).verdict == "passed"

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    def test_without_a_limit_only_equal_probabilities_tie(self, precision: str) -> None:
        assert judge(precision, MANY, 3, first=0.5001, second=0.4999).ties == 0
        ancestor, labels = answers(MANY, 0.5, 0.5)
        candidate = ancestor.copy()
        candidate[:3, 1] += 0.1
        assert compare(ancestor, candidate, labels, LIMITS[precision]).ties == 3


class TestFewImages:
    """Below 2,000 images only an interval wholly beyond its limit fails, and only one wholly within it passes."""

    def test_a_drop_that_may_be_chance(self) -> None:
        verdict = judge("int8", 500, 4)
        assert (verdict.verdict, verdict.passed) == ("inconclusive", True)
        assert verdict.reasons == ("accuracy drops by 0.8 points, the limit is 0.5",)

    def test_a_drop_that_is_no_chance(self) -> None:
        verdict = judge("int8", 500, 14)
        assert verdict.verdict == "failed"
        assert verdict.accuracy_drop_interval[0] > 0.5

    def test_a_drop_within_the_limit_that_may_be_more(self) -> None:
        verdict = judge("int8", 500, 1)
        assert verdict.verdict == "inconclusive"
        assert verdict.reasons == ("500 images are too few to tell whether accuracy drops by more than 0.5 points",)

    def test_the_same_shares_are_judged_from_2000_images_on(self) -> None:
        assert judge("int8", ENOUGH_IMAGES - 1, 11).verdict == "inconclusive"
        assert judge("int8", ENOUGH_IMAGES, 11).verdict == "failed"
        assert judge("int8", ENOUGH_IMAGES - 1, 9).verdict == "inconclusive"
        assert judge("int8", ENOUGH_IMAGES, 9).verdict == "passed"

    def test_agreement(self) -> None:
        ancestor, _ = answers(100)
        labels = np.full(100, 2)
        assert compare(ancestor, swapped(ancestor, 4), labels, LIMITS["int8"]).verdict == "inconclusive"
        assert compare(ancestor, swapped(ancestor, 12), labels, LIMITS["int8"]).verdict == "failed"

    def test_fp32_allows_no_disagreement_at_all(self) -> None:
        assert judge("fp32", 500, 1).verdict == "failed"
        assert judge("fp32", 500, 1, first=0.5004, second=0.4996).verdict == "passed"

    @pytest.mark.parametrize(("precision", "enough"), [("fp16", ENOUGH_IMAGES), ("bf16", 1_384), ("int8", 553)])
    def test_that_nothing_changes_tells_little_of_few(self, precision: str, enough: int) -> None:
        assert judge(precision, enough, 0).verdict == "passed"
        for images in (1, 2, 360, enough - 1):
            verdict = judge(precision, images, 0)
            assert verdict.verdict == "inconclusive"
            assert verdict.accuracy_drop_interval[1] > LIMITS[precision].drop_points

    @pytest.mark.parametrize("images", [2, 360])
    def test_where_no_drop_is_allowed_it_is_enough(self, images: int) -> None:
        verdict = judge("fp32", images, 0)
        assert (verdict.verdict, verdict.reasons) == ("passed", ())
        assert verdict.accuracy_drop_interval == (0, 0)

    def test_one_image(self) -> None:
        verdict = judge("fp32", 1, 0)
        assert verdict.verdict == "inconclusive"
        assert verdict.accuracy_drop_interval == (-100, 100)


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("images", [5, MANY])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_a_number_fails(precision: str, images: int, value: float) -> None:
    ancestor, labels = answers(images)
    candidate = ancestor.copy()
    candidate[2, 0] = value
    verdict = compare(ancestor, candidate, labels, LIMITS[precision])
    assert verdict.verdict == "failed"
    assert verdict.reasons[0] == "an answer is not a number"
    assert verdict.max_difference == 1
    assert verdict.disagreements == 1
    assert verdict.accuracy == (images - 1) / images
    json.dumps(verdict.to_dict(), allow_nan=False)
    swapped_roles = compare(candidate, ancestor, labels, LIMITS[precision])
    assert swapped_roles.verdict == "failed"


def test_all_answers_are_nan() -> None:
    ancestor, labels = answers(MANY)
    verdict = compare(ancestor, np.full_like(ancestor, np.nan), labels, LIMITS["int8"])
    assert (verdict.verdict, verdict.agreement, verdict.accuracy, verdict.accuracy_drop_points) == ("failed", 0, 0, 100)
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_the_drop_and_its_interval() -> None:
    """Paired: 30 lost and 10 gained of 10,000; by hand, as of 31 and 11 of 10,002."""
    ancestor, labels = answers(MANY)
    labels[:10] = 1
    verdict = compare(ancestor, swapped(ancestor, 40), labels, LIMITS["int8"])
    assert verdict.accuracy_drop_points == pytest.approx(0.2)
    middle = 20 / (MANY + 2)
    half = 1.959964 * ((42 / (MANY + 2) - middle**2) / (MANY + 2)) ** 0.5
    assert verdict.accuracy_drop_interval == pytest.approx((100 * (middle - half), 100 * (middle + half)))
    assert (verdict.ancestor_accuracy, verdict.accuracy) == pytest.approx((0.999, 0.997))
