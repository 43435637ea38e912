"""What is said of an import, by made-up answers to 300 images of 10 classes."""

from typing import Any

import numpy as np
import pytest

from peregrine.foreign.pixels import Pixels
from peregrine.foreign.suspicion import look

NAMES = tuple("abcdefghij")
LABELS = np.random.default_rng(0).integers(0, 10, 300)
GIVEN, OTHER = Pixels(), Pixels(scale=1 / 255)
SHUFFLED = np.random.default_rng(3).permutation(10)


def answers(right: float, order: Any = None, seed: int = 0, labels: Any = LABELS) -> Any:
    """Right on a share of the images; output k stands for class `order[k]`."""
    random = np.random.default_rng(seed)
    said = np.where(random.random(len(labels)) < right, labels, random.integers(0, 10, len(labels)))
    outputs = np.argsort(np.arange(10) if order is None else order)[said]
    return np.eye(10, dtype=np.float32)[outputs]


def test_what_fits_is_left_in_peace() -> None:
    findings = look([(GIVEN, answers(0.9)), (OTHER, answers(0.9, seed=1))], LABELS, NAMES)
    assert (findings.mending, findings.near_chance) == (None, False)
    assert findings.to_dict()["accuracy"] == pytest.approx(0.91, abs=0.05)
    assert [entry["options"] for entry in findings.tried] == ["--scale 1", "--scale 1/255"]


def test_another_scale() -> None:
    findings = look([(GIVEN, answers(0.3)), (OTHER, answers(0.9))], LABELS, NAMES)
    assert findings.mending is not None
    assert findings.mending.options() == "--scale 1/255"
    assert findings.mending.class_names is None
    assert findings.mending.accuracy > 0.85 > 0.5 > findings.mending.before


def test_another_order_of_classes() -> None:
    findings = look([(GIVEN, answers(0.9, SHUFFLED)), (OTHER, answers(0.2))], LABELS, NAMES)
    assert findings.near_chance
    assert findings.mending is not None
    assert findings.mending.pixels is None
    assert findings.mending.class_names == tuple(NAMES[index] for index in SHUFFLED)
    assert findings.mending.options() == f'--classes "{",".join(findings.mending.class_names)}"'


def test_two_classes_that_changed_places() -> None:
    swapped = [1, 0, *range(2, 10)]
    findings = look([(GIVEN, answers(0.95, swapped))], LABELS, NAMES)
    assert findings.mending is not None
    assert findings.mending.class_names == ("b", "a", *NAMES[2:])


def test_both() -> None:
    findings = look([(GIVEN, answers(0.1)), (OTHER, answers(0.9, SHUFFLED))], LABELS, NAMES)
    assert findings.mending is not None
    assert findings.mending.options().startswith('--scale 1/255 --classes "')


def test_noise_is_near_chance_and_nothing_mends_it() -> None:
    for seed in range(10):
        tried = [(Pixels(scale=number), answers(0.0, seed=100 * seed + number)) for number in range(1, 12)]
        findings = look(tried, LABELS, NAMES)
        assert findings.near_chance
        assert findings.mending is None, seed


def test_of_two_that_are_right_as_often_the_surer_one() -> None:
    sure = answers(0.9)
    unsure = 0.4 * sure + 0.06
    third = Pixels(scale=1 / 127.5)
    findings = look([(GIVEN, answers(0.3)), (OTHER, unsure), (third, sure)], LABELS, NAMES)
    assert findings.mending is not None
    assert findings.mending.pixels == third


def test_a_hair_is_not_enough() -> None:
    better = answers(0.8)
    worse = better.copy()
    worse[:6] = np.roll(better[:6], 1, axis=1)
    assert look([(GIVEN, worse), (OTHER, better)], LABELS, NAMES).mending is None


def test_few_images_say_nothing_of_the_order_of_many_classes() -> None:
    findings = look([(GIVEN, answers(0.9, SHUFFLED, labels=LABELS[:40]))], LABELS[:40], NAMES)
    assert findings.mending is None
    assert findings.tried[0]["reordered_accuracy"] is None


def test_others_may_have_been_asked_about_fewer_images() -> None:
    findings = look([(GIVEN, answers(0.3)), (OTHER, answers(0.9)[:80])], LABELS, NAMES)
    assert findings.images == 300
    assert findings.mending is not None
    assert findings.mending.images == 80
