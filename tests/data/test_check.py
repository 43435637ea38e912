"""`data check`: every rule, found once and not found in clean data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
from peregrine.data.base import Options
from peregrine.data.check import Finding, check
from peregrine.errors import CheckFailed


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return making.split_photos(tmp_path / "d", each=6)


def only(source: Path) -> Finding:
    (finding,) = check(source)
    return finding


def test_clean(clean: Path) -> None:
    assert check(clean) == []


def test_unreadable(clean: Path) -> None:
    (clean / "train" / "cat" / "1.png").write_text("text")
    finding = only(clean)
    assert (finding.rule, finding.level) == ("unreadable", "error")
    assert finding.message == "1 image cannot be read; repair or remove them"
    assert finding.ids == ("train/cat/1.png: not a JPEG, PNG, WEBP or BMP image",)
    with pytest.raises(CheckFailed):
        check(clean, Options(max_bad=0.01))


def test_leakage(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "test" / "cat" / "copy.png")
    finding = only(clean)
    assert (finding.rule, finding.level) == ("leakage", "error")
    assert finding.ids == ("train/cat/1.png (cat) = test/cat/copy.png (cat)",)


def test_duplicate(clean: Path) -> None:
    Image.open(clean / "train" / "cat" / "1.png").save(clean / "train" / "cat" / "copy.bmp")  # same pixels, other file
    finding = only(clean)
    assert (finding.rule, finding.level) == ("duplicate", "warning")
    assert finding.ids == ("train/cat/1.png (cat) = train/cat/copy.bmp (cat)",)


def test_conflict_comes_first(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "train" / "dog" / "copy.png")
    conflict, duplicate = check(clean)
    assert (conflict.rule, conflict.level, duplicate.rule) == ("conflict", "error", "duplicate")
    assert conflict.ids == ("train/cat/1.png (cat) = train/dog/copy.png (dog)",)
    assert conflict.message.startswith("1 image has copies with different labels")


def test_imbalance(clean: Path) -> None:
    for index, pixels in enumerate(making.images(54, 16, seed=99)):
        Image.fromarray(pixels).save(clean / "train" / "cat" / f"more{index}.png")
    finding = only(clean)
    assert (finding.rule, finding.level, finding.ids) == ("imbalance", "warning", ("dog",))
    assert "in train the largest class has 60 images and the smallest 6" in finding.message


def test_missing_class(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c", per_batch=9)
    finding = only(tmp_path / "c")
    assert (finding.rule, finding.level) == ("missing-class", "error")
    assert finding.message.startswith("test has no image of 1 of 10 classes")
    assert finding.ids == ("deer",)


def test_blank(clean: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(clean / "test" / "dog" / "blank.png")
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(clean / "test" / "dog" / "stripes.png")
    finding = only(clean)
    assert (finding.rule, finding.level, finding.ids) == ("blank", "warning", ("test/dog/blank.png",))
