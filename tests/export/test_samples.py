"""Which images a conversion to INT8 gets to see."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_runs
from peregrine.dataset import Dataset
from peregrine.export.samples import JUDGED_IMAGES, Samples, batches, draw, stratified

LIMITS = {"least_agreement": 0.97, "most_drop_points": 0.5}


def answer(part: Dataset) -> Any:
    """As if the ancestor were always right."""
    return np.eye(len(part.class_names), dtype=np.float32)[part.labels]


def pixels(images: Any) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_all_classes_alike() -> None:
    part = small_runs.patterns(90, 0)
    lopsided = part.subset(np.flatnonzero((part.labels != 3) | (np.arange(90) < 8)))
    chosen = lopsided.subset(stratified(lopsided, 20))
    assert chosen.counts.tolist() == [6, 6, 6, 2]  # there are no more of the last
    assert len(stratified(part, 1000)) == 90
    assert (np.diff(stratified(part, 50)) > 0).all()


def test_calibrated_on_training_and_judged_on_validation() -> None:
    splits = small_runs.splits()
    drawn = draw(splits.train, splits.validation, answer, **LIMITS)
    assert pixels(drawn.calibration) == pixels(splits.train.images)
    assert splits.validation is not None
    assert pixels(drawn.judged) == pixels(splits.validation.images)
    assert (drawn.expected.argmax(1) == drawn.labels).all()
    assert drawn.record["judged_split"] == "validation"
    assert drawn.record["calibration_images"] == 90
    assert drawn.record["judged_fingerprint"] == splits.validation.fingerprint
    again = draw(splits.train, splits.validation, answer, **LIMITS)
    np.testing.assert_array_equal(again.calibration, drawn.calibration)


def test_without_validation_other_training_images_judge() -> None:
    train = small_runs.patterns(3000, 0)
    drawn = draw(train, None, answer, **LIMITS)
    assert (len(drawn.calibration), len(drawn.judged)) == (512, JUDGED_IMAGES)
    assert pixels(drawn.calibration).isdisjoint(pixels(drawn.judged))
    assert pixels(drawn.calibration) | pixels(drawn.judged) <= pixels(train.images)
    assert drawn.record["judged_split"] == "train"
    few = draw(small_runs.patterns(90, 0), None, answer, **LIMITS)
    assert (len(few.calibration), len(few.judged)) == (45, 45)


@pytest.mark.parametrize(("size", "batch"), [(12, 64), (64, 64), (256, 4)])
def test_of_large_images_few_are_looked_at_at_once(size: int, batch: int) -> None:
    """All that lies between the layers is held of each."""
    images = np.zeros((2 * batch + 1, size, size, 3), np.uint8)
    assert [len(part) for part in batches(images)] == [batch, batch, 1]


def test_how_answers_are_judged(tmp_path: Path) -> None:
    drawn = draw(small_runs.patterns(90, 0), small_runs.patterns(40, 1), answer, **LIMITS)
    drawn.save(tmp_path / "samples.npz")
    read = Samples.load(tmp_path / "samples.npz")
    assert read.record == drawn.record
    wrong = read.expected.copy()
    wrong[0] = np.roll(wrong[0], 1)
    assert read.drop_points(wrong) == 2.5
    assert read.agreement(wrong) == 39 / 40
    assert read.difference(wrong) == np.float32(2 / 160)
    assert read.within_limits(0.97, 0.5)
    assert not read.within_limits(0.97, 0.51)
    assert not read.within_limits(0.96, 0.0)
