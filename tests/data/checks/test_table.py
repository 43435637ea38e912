"""From findings to a CSV, from the CSV to data without them, and back."""

import csv
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
from peregrine.data import exclusions, sources
from peregrine.data.base import Options
from peregrine.data.checks.base import Case, Finding, Member, finding
from peregrine.data.checks.examine import check
from peregrine.data.checks.excluding import exclude
from peregrine.data.checks.table import excluded, write
from peregrine.errors import CheckFailed, DamagedFile, DataError, UsageError


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Ten images in each class and split; a copy across splits, one with another label, one cut file."""
    folder = making.split_photos(tmp_path / "photos", each=10)
    shutil.copy(folder / "train" / "cat" / "1.png", folder / "test" / "cat" / "copy.png")
    shutil.copy(folder / "train" / "cat" / "2.png", folder / "train" / "dog" / "copy.png")
    cut = folder / "train" / "dog" / "3.png"
    cut.write_bytes(cut.read_bytes()[:300])
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def case(*ids: str) -> Case:
    return Case(tuple(Member(name, name.partition("/")[0], "cat", number) for number, name in enumerate(ids)))


def test_what_would_be_excluded() -> None:
    findings: list[Finding] = [
        *finding("leakage", "", [case("train/1", "train/2", "test/1")]),
        *finding("near-leakage", "", [case("train/3", "test/1"), case("train/4", "train/3")]),
        *finding("near-duplicate", "", [case("test/5", "test/6"), case("test/6", "test/7")]),
        *finding("label-error", "", [case("train/8")]),
        *finding("truncated", "", [case("train/9")]),
        *finding("conflict", "", [case("train/10", "train/11")]),
    ]
    # train/3 is a copy of test/1, which stays; train/4 is one of train/3 alone, so it stays, and so does test/7
    expected = {"train/1", "train/2", "train/3", "test/6", "train/9", "train/10", "train/11"}
    assert excluded(findings) == expected


def test_the_whole_way(spoilt: Path, tmp_path: Path) -> None:
    table = tmp_path / "findings.csv"
    write(check(spoilt).findings, table)
    told = rows(table)
    assert {row["check"] for row in told} == {"truncated", "leakage", "conflict", "duplicate"}
    assert {row["id"]: row["exclude"] for row in told} == {
        "train/dog/3.png": "yes",
        "train/cat/1.png": "yes",
        "test/cat/copy.png": "no",
        "train/cat/2.png": "yes",
        "train/dog/copy.png": "yes",
    }
    with pytest.raises(CheckFailed):  # one of 42 is more than 1%
        sources.load_dataset(spoilt)
    exclude(spoilt, str(table))
    splits = sources.load_dataset(spoilt)
    assert (len(splits.train), len(splits.test)) == (20 + 1 - 4, 21)
    assert splits.notes == (
        f"4 images are left out, as {table} told `peregrine data prepare`; `--exclude none` takes them back",
    )
    assert check(spoilt).findings == ()
    exclude(spoilt, "none")
    assert len(sources.load(spoilt, Options(max_bad=1)).splits.train) == 20


def test_data_known_by_a_name(tmp_path: Path) -> None:
    whole = sources.load_dataset("digits")
    table = tmp_path / "findings.csv"
    table.write_text(f"id;exclude\n{whole.train.ids[0]};Yes\n{whole.test.ids[0]};no\n")  # as some spreadsheets save it
    exclude("digits", str(table))
    kept = sources.load_dataset("digits")
    assert len(kept.train) == len(whole.train) - 1
    np.testing.assert_array_equal(kept.train.ids, whole.train.ids[1:])
    exclude("digits", str(table))  # again: what is left out already is known
    table.write_text(f"id,exclude\n{whole.train.ids[1]},yes\n")  # and comes on top
    exclude("digits", str(table))
    assert len(sources.load_dataset("digits").train) == len(whole.train) - 2
    exclude("digits", "none")
    assert sources.load_dataset("digits").train.fingerprint == whole.train.fingerprint


def test_cells_are_no_formulas(tmp_path: Path) -> None:
    table = tmp_path / "findings.csv"
    names = ["=1+1/a.png", "'quoted/b.png", '@x,"y"/c.png', "plain/d.png"]
    write(finding("truncated", "", [case(name) for name in names]), table)
    assert not [row["id"] for row in rows(table) if row["id"].startswith(("=", "+", "-", "@"))]
    assert exclusions.read(table).ids == set(names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "has the columns id and exclude; .* has 'a,b'"),
        (b"id,exclude\nx,maybe\n", "exclude is yes or no; line 2 of .* says 'maybe'"),
        (b"id,exclude\nx,no\n", "marks none"),
        (b"id,exclude\nx,yes\n", "names no image of digits"),
        (b"id,exclude\n\xff,yes\n", "is UTF-8"),
        (b'id,exclude\n"' + b"x" * 200_000, "is a CSV file; .* is not: field larger than"),
        (b"id,exclude,split,label\ndigits/0,yes,test,7\n", "has 'digits/0' as test 7, in digits it is train 0; check"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "findings.csv"
    table.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        exclude("digits", str(table))
    assert exclusions.recall("digits") == exclusions.Exclusions()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="takes a file of `peregrine data check SRC --csv FILE`, or none"):
        exclude("digits", "no-such.csv")


def test_some_unknown_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = tmp_path / "findings.csv"
    table.write_text("id,exclude\ndigits/0,yes\ngone,yes\n")
    with caplog.at_level(logging.WARNING, "peregrine"):
        exclude("digits", str(table))
    assert "1 of the 2 images to leave out are not in digits" in caplog.text


def test_line_ends_of_old_spreadsheets(tmp_path: Path) -> None:
    table = tmp_path / "findings.csv"
    table.write_bytes(b"id,exclude\rdigits/0,yes\rdigits/1,no\r")
    assert exclusions.read(table).ids == {"digits/0"}


def test_classes_that_a_spreadsheet_took_for_numbers(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "d", classes=("00000", "00014"))
    table = tmp_path / "findings.csv"
    table.write_text("id,exclude,split,label\ntrain/00000/0.png,yes,train,0\ntrain/00014/0.png,yes,train,14\n")
    exclude(folder, str(table))
    assert len(sources.load_dataset(folder).train) == 8


def test_a_class_is_not_excluded_as_a_whole(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "d")
    table = tmp_path / "findings.csv"
    table.write_text("id,exclude\n" + "".join(f"test/cat/{number}.png,yes\n" for number in range(5)))
    with pytest.raises(DataError, match=r"findings\.csv leaves none of 'cat' in test; mark fewer"):
        exclude(folder, str(table))


def test_a_damaged_memory_is_told(cache: Path) -> None:
    exclusions.remember("digits", exclusions.Exclusions(frozenset({"digits/0"}), "f.csv"))
    (path,) = (cache / "exclusions").iterdir()
    path.write_text("[]")
    with pytest.raises(DamagedFile, match="delete it and exclude again"):
        sources.load_dataset("digits")


def test_grown_data_keep_their_exclusions(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "d")
    table = tmp_path / "findings.csv"
    table.write_text("id,exclude\ntrain/cat/0.png,yes\n")
    exclude(folder, str(table))
    Image.fromarray(making.images(1, 16, seed=9)[0]).save(folder / "train" / "cat" / "new.png")
    assert "train/cat/0.png" not in sources.load_dataset(folder).train.ids


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        (["cat"], r"class 'cat' is in train and not in test; .* \(4 left out, as `peregrine data prepare` was told; "),
        (["cat", "dog"], r"every split has an image; in .* test has none \(8 left out"),
    ],
)
def test_shrunk_data_of_which_too_little_stays(tmp_path: Path, excluded: list[str], message: str) -> None:
    folder = making.split_photos(tmp_path / "d")
    table = tmp_path / "findings.csv"
    marked = [f"test/{name}/{number}.png,yes\n" for name in excluded for number in range(4)]
    table.write_text("id,exclude\n" + "".join(marked))
    exclude(folder, str(table))
    for name in excluded:
        (folder / "test" / name / "4.png").unlink()
    with pytest.raises(DataError, match=message):
        sources.load_dataset(folder)
