"""Paired statistics, against numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest

from peregrine.dataset import Dataset
from peregrine.stages.pairing import Answers, compare, mcnemar_p


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (5, 0), (2, 8), (6, 16), (150, 86)])
def test_mcnemar(gained: int, lost: int) -> None:
    """Twice the smaller tail of so many tosses of a fair coin."""
    tosses = gained + lost
    tail = sum(math.comb(tosses, heads) for heads in range(min(gained, lost) + 1)) / 2**tosses
    assert mcnemar_p(gained, lost) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_p(gained, lost) == mcnemar_p(lost, gained)


def test_mcnemar_where_nothing_speaks_for_either() -> None:
    assert mcnemar_p(0, 0) == mcnemar_p(10, 10) == 1.0


CLASSES = ("ant", "bee", "cow")


def part(labels: list[int], classes: tuple[str, ...] = CLASSES) -> Dataset:
    ids = np.array([f"test/{number}" for number in range(len(labels))])
    return Dataset(np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), ids, classes)


def answers(name: str, labels: list[int], said: list[int], sure: float = 0.8, classes: Any = CLASSES) -> Answers:
    """A model that says this, with so much probability."""
    probabilities = np.full((len(labels), len(classes)), (1 - sure) / (len(classes) - 1), np.float32)
    probabilities[np.arange(len(labels)), said] = sure
    return Answers.of(name, part(labels, classes), probabilities)


def test_two_models_by_hand() -> None:
    truth = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    before = answers("before", truth, [0, 0, 1, 1, 2, 0, 2, 2, 2, 2])  # 7 right
    after = answers("after", truth, [0, 0, 0, 1, 1, 1, 2, 2, 2, 0])  # 9 right
    found = compare(before, after)
    assert found["difference_points"] == pytest.approx(20)
    assert (found["gained"], found["lost"]) == (3, 1)
    assert found["difference_interval"] == pytest.approx([-22.21, 55.55], abs=0.01)  # of 4 and 2 in 12
    assert (found["mcnemar_p"], found["verdict"]) == (0.625, "no difference shown")
    assert (found["both_right"], found["both_wrong"], found["agreement"]) == (6, 0, 0.6)
    assert found["only_reference_right"]["ids"] == ["test/9"]
    assert found["only_model_right"]["ids"] == ["test/2", "test/4", "test/5"]
    (example,) = found["only_reference_right"]["examples"]
    assert {key: example[key] for key in ("id", "true", "other_says")} == {
        "id": "test/9", "true": "cow", "other_says": "ant",
    }  # fmt: skip
    assert (example["probability"], example["other_probability"]) == pytest.approx((0.8, 0.8))
    bee, ant, cow = found["per_class"]  # the largest change first
    assert (bee["class"], bee["images"], bee["gained"], bee["lost"]) == ("bee", 3, 2, 0)
    assert (bee["reference_accuracy"], bee["accuracy"]) == pytest.approx((1 / 3, 1))
    assert bee["difference_points"] == pytest.approx(200 / 3)
    assert (ant["class"], cow["class"], cow["difference_points"]) == ("ant", "cow", -25)


@pytest.mark.parametrize(("turn", "verdict"), [(1, "better"), (-1, "worse")])
def test_a_clear_difference(turn: int, verdict: str) -> None:
    truth = [number % 3 for number in range(60)]
    good = answers("good", truth, truth)
    bad = answers("bad", truth, [0] * 60)
    found = compare(*(bad, good)[::turn])
    assert found["verdict"] == verdict
    assert found["mcnemar_p"] < 1e-9
    low, high = found["difference_interval"]
    assert low * turn > 0 < high * turn


def test_classes_meet_by_name() -> None:
    """One model counts the classes backwards and knows one more: the same answers are the same."""
    truth, said = [0, 1, 2, 1], [0, 1, 1, 1]
    other = ("dog", "cow", "bee", "ant")
    one = answers("one", truth, said)
    two = answers("two", [3 - label for label in truth], [3 - label for label in said], classes=other)
    found = compare(one, two)
    assert (found["agreement"], found["difference_points"]) == (1.0, 0.0)
    assert found["only_model_right"] == {"images": 0, "ids": [], "examples": []}


def test_the_surest_against_the_other_come_first() -> None:
    truth = [0] * 8
    reference = answers("a", truth, [1] * 8, sure=0.6)
    model = answers("b", truth, [0] * 8)
    belief = np.linspace(0.5, 0.9, 8)
    model.belief[:] = belief
    only = compare(reference, model)["only_model_right"]
    assert only["images"] == 8
    assert only["ids"] == [f"test/{number}" for number in range(7, -1, -1)]
    assert [example["id"] for example in only["examples"]] == only["ids"][:5]


def test_an_answer_that_is_no_number_is_wrong() -> None:
    said = Answers.of("broken", part([0, 1]), np.array([[np.nan, 0.5, 0.5], [0.1, 0.8, 0.1]], np.float32))
    assert said.right.tolist() == [False, True]
    found = compare(answers("sound", [0, 1], [0, 1]), said)
    (example,) = found["only_reference_right"]["examples"]
    assert (example["other_says"], example["other_probability"]) == ("", 0.0)


def test_one_image_tells_nothing() -> None:
    found = compare(answers("a", [0], [0]), answers("b", [0], [1]))
    assert (found["difference_points"], found["mcnemar_p"], found["verdict"]) == (-100, 1.0, "no difference shown")
