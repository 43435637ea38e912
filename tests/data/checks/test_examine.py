"""`data check`: every rule that files and pixels tell, found once and not found in clean data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
from peregrine.catalog import CATALOG, Entry
from peregrine.data.base import Options
from peregrine.data.checks.base import RULES, Finding
from peregrine.data.checks.examine import Report, check
from peregrine.errors import CheckFailed, DataError, MissingDependency, UsageError


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return making.split_photos(tmp_path / "d", each=6)


def only(source: Path) -> Finding:
    (finding,) = check(source).findings
    return finding


def ids(finding: Finding) -> list[str]:
    return [" = ".join(member.id or member.class_name for member in case.members) for case in finding.cases]


def test_clean(clean: Path) -> None:
    report = check(clean)
    assert report.findings == ()
    assert report.left_out == {"label-error": "there are too few images to learn from"}
    assert set(report.looked_for) | set(report.left_out) == set(RULES)


def test_unreadable(clean: Path) -> None:
    (clean / "train" / "cat" / "1.png").write_text("text")
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level) == ("unreadable", "error")
    assert finding.message == "1 file cannot be read; repair or remove them"
    assert ids(finding) == ["train/cat/1.png"]
    assert finding.cases[0].detail == "not a JPEG, PNG, WEBP or BMP image"
    with pytest.raises(CheckFailed):
        check(clean, Options(max_bad=0.01))


def test_another_kind_of_image_is_named(clean: Path) -> None:
    Image.new("RGB", (16, 16)).save(clean / "train" / "cat" / "1.gif")
    (clean / "train" / "cat" / "1.gif").rename(clean / "train" / "cat" / "1.png")
    assert only(clean).cases[0].detail == "not a JPEG, PNG, WEBP or BMP image but a GIF file"


def test_empty_file(clean: Path) -> None:
    (clean / "train" / "cat" / "1.png").write_bytes(b"")
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level, ids(finding)) == ("empty-file", "error", ["train/cat/1.png"])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_truncated(clean: Path, suffix: str) -> None:
    path = clean / "train" / "cat" / f"cut{suffix}"
    Image.fromarray(making.scenes(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level, ids(finding)) == ("truncated", "error", [f"train/cat/cut{suffix}"])


def test_a_cut_jpeg_that_was_filled_up_with_zeros_is_truncated(clean: Path) -> None:
    path = clean / "train" / "cat" / "1.png"
    Image.fromarray(making.scenes(1, 200)[0]).save(path, "JPEG")
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes(len(content) - 2000))
    assert only(clean).rule.id == "truncated"


def test_damaged_inside_is_not_truncated(clean: Path) -> None:
    path = clean / "train" / "cat" / "1.png"
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    assert only(clean).rule.id == "unreadable"


def test_wrong_suffix(clean: Path) -> None:
    path = clean / "train" / "cat" / "1.png"
    path.rename(path.with_suffix(".jpg"))
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level, ids(finding)) == ("wrong-suffix", "warning", ["train/cat/1.jpg"])
    assert finding.cases[0].detail == "is a PNG file"


def test_odd_size(clean: Path) -> None:
    for name, size in (("long", (48, 16)), ("small", (6, 7))):
        Image.fromarray(making.images(1, 64, seed=5)[0]).resize(size).save(clean / "train" / "cat" / f"{name}.png")
    (finding,) = check(clean, Options(size=16, max_bad=1)).findings
    assert (finding.rule.id, finding.rule.level) == ("odd-size", "warning")
    assert [case.detail for case in finding.cases] == [
        "48×16 pixels, of which the crop loses 67%",
        "6×7 pixels, blown up 2.7 times",
    ]


def test_a_class_that_cannot_be_read_does_not_hide_the_reason(clean: Path) -> None:
    for path in (clean / "test" / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    report = check(clean)
    assert [finding.rule.id for finding in report.findings] == ["truncated", "untrainable"]
    assert len(report.findings[0].cases) == 6
    assert "none of class 'cat' in test can be read" in report.findings[1].cases[0].detail
    assert report.left_out["leakage"] == "the data cannot be loaded"
    with pytest.raises(DataError):
        check(clean, only=["leakage"])


def test_leakage(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "test" / "cat" / "copy.png")
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level) == ("leakage", "error")
    assert ids(finding) == ["train/cat/1.png = test/cat/copy.png"]


def test_duplicate(clean: Path) -> None:
    Image.open(clean / "train" / "cat" / "1.png").save(clean / "train" / "cat" / "copy.bmp")  # same pixels, other file
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level) == ("duplicate", "warning")
    assert ids(finding) == ["train/cat/1.png = train/cat/copy.bmp"]


def test_conflict_comes_first(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "train" / "dog" / "copy.png")
    conflict, duplicate = check(clean).findings
    assert (conflict.rule.id, conflict.rule.level, duplicate.rule.id) == ("conflict", "error", "duplicate")
    assert [member.class_name for member in conflict.cases[0].members] == ["cat", "dog"]
    assert conflict.message.startswith("1 image has copies with different labels")


def test_imbalance(clean: Path) -> None:
    for index, pixels in enumerate(making.images(54, 16, seed=99)):
        Image.fromarray(pixels).save(clean / "train" / "cat" / f"more{index}.png")
    finding = only(clean)
    assert (finding.rule.id, finding.rule.level, ids(finding)) == ("imbalance", "warning", ["dog"])
    assert "in train the largest class has 60 images and the smallest 6" in finding.message


def test_missing_class(tmp_path: Path) -> None:
    making.cifar10_binary(tmp_path / "c", per_batch=9)
    finding = only(tmp_path / "c")
    assert (finding.rule.id, finding.rule.level) == ("missing-class", "error")
    assert finding.message.startswith("test has no image of 1 of 10 classes")
    assert ids(finding) == ["deer"]


def test_blank_and_grey(clean: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(clean / "test" / "dog" / "blank.png")
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(clean / "test" / "dog" / "stripes.jpg")
    blank, grey = check(clean).findings
    assert (blank.rule.id, blank.rule.level, ids(blank)) == ("blank", "warning", ["test/dog/blank.png"])
    assert (grey.rule.id, grey.rule.level, ids(grey)) == ("grey", "warning", ["test/dog/stripes.jpg"])


def test_grey_data_are_not_odd() -> None:
    """And digits of 8 pixels, which look alike, are not called near copies."""
    report = check("digits", only=["grey", "near-duplicate", "duplicate"])
    assert report.findings == ()
    assert "different ones look alike" in report.left_out["near-duplicate"]


def test_only(clean: Path) -> None:
    (clean / "train" / "cat" / "1.png").write_bytes(b"")
    shutil.copy(clean / "train" / "cat" / "2.png", clean / "test" / "cat" / "copy.png")
    report = check(clean, only=["leakage"])
    assert [finding.rule.id for finding in report.findings] == ["leakage"]
    assert report.looked_for == ("leakage",)
    with pytest.raises(UsageError, match=r"^unknown check 'leek'; known: unreadable, "):
        check(clean, only=["leek"])
    with pytest.raises(UsageError, match="did you mean 'leakage'"):
        check(clean, only=["leakag"])


def test_without_cleanlab_the_rest_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG["check"], "label-error", Entry("no_such_library.sub", "check"))
    report = check("digits", Options())
    assert "pip install 'peregrine[check]'" in report.left_out["label-error"]
    with pytest.raises(MissingDependency):
        check("digits", only=["label-error"])


def test_as_json(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "test" / "cat" / "copy.png")
    report: Report = check(clean, only=["leakage"])
    assert report.to_dict() == {
        "schema": 1,
        "source": str(clean),
        "images": {"train": 12, "test": 13},
        "checks": ["leakage"],
        "left_out": {},
        "findings": [
            {
                "id": "leakage",
                "level": "error",
                "message": "1 image has copies in another split, which makes scores too good; keep each in one",
                "cases": [
                    {
                        "images": [
                            {"id": "train/cat/1.png", "split": "train", "class": "cat"},
                            {"id": "test/cat/copy.png", "split": "test", "class": "cat"},
                        ],
                        "detail": "",
                        "score": 1.0,
                    }
                ],
            }
        ],
    }
