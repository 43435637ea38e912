"""The picture of two models side by side says by how much they differ, with its interval."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine.dataset import Dataset
from peregrine.stages import pairing, plots, wording
from pictures import HOSTILE, NARROW, WIDE, answers, title


def compared(classes: int, images: int, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Two made-up models on the same images."""
    labels = np.random.default_rng(1).integers(0, classes, images)
    names = names or tuple(f"class {number}" for number in range(classes))
    ids = np.array([str(number) for number in range(images)])
    part = Dataset(np.zeros((images, 1, 1, 3), np.uint8), labels, ids, names)
    said = [
        pairing.Answers.of(name, part, answers(labels, classes, accuracy, seed).astype(np.float32))
        for seed, (name, accuracy) in enumerate((("runs/before", 0.6), ("runs/after", 0.8)))
    ]
    return pairing.compare(*said)


def test_changes_per_class(tmp_path: Path) -> None:
    comparison = compared(10, 4_000)
    plots.class_changes(comparison, tmp_path / "a.png")
    change = wording.points(comparison["difference_points"])
    low, high = map(wording.points, comparison["difference_interval"])
    assert title(tmp_path / "a.png") == (
        f"runs/after: {change} points of accuracy against runs/before (95% interval {low} to {high})"
    )


@pytest.mark.parametrize(("classes", "images", "width"), [(2, 2, NARROW), (100, 3_000, WIDE)])
def test_changes_of_few_and_many_classes(tmp_path: Path, classes: int, images: int, width: int) -> None:
    plots.class_changes(compared(classes, images), tmp_path / "a.png")
    assert " points of accuracy against runs/before" in title(tmp_path / "a.png", width)


def test_changes_of_hostile_classes(tmp_path: Path) -> None:
    plots.class_changes(compared(len(HOSTILE), 200, HOSTILE), tmp_path / "a.png")
    assert title(tmp_path / "a.png")
