"""A CSV file with paths and labels: what is understood, and what it may have instead."""

import os
from pathlib import Path

import pytest

import making
from peregrine.data.base import Options
from peregrine.data.sources import load, load_dataset
from peregrine.errors import DamagedFile, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images."""
    (tmp_path / "d" / "sub").mkdir(parents=True)
    for index, content in enumerate(making.encoded(10)):
        (tmp_path / "d" / "sub" / f"{index}.png").write_bytes(content)
    return tmp_path / "d"


def lines(ending: str = "") -> list[str]:
    return [f"sub/{index}.png,{'ab'[index % 2]}{ending}" for index in range(10)]


def written(folder: Path, header: str, rows: list[str], encoding: str = "utf-8") -> Path:
    (folder / "images.csv").write_text("\n".join([header, *rows]) + "\n", encoding)
    return folder / "images.csv"


def test_columns_in_any_order(folder: Path) -> None:
    rows = [
        f"{'ab'[index % 2]},x,{'Val' if index > 7 else 'test' if index > 5 else 'training'},./sub/{index}.png"
        for index in range(10)
    ]
    splits = load_dataset(written(folder, "Class, other ,split,file_name", rows, "utf-8-sig"))
    assert splits.class_names == ("a", "b")
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 2)
    assert splits.train.ids.tolist()[0] == "./sub/0.png"


def test_without_splits(folder: Path) -> None:
    splits = load_dataset(written(folder, "path,label", ["", *lines()]))
    assert (len(splits.train), len(splits.test)) == (8, 2)


def test_paths_that_have_to_be_quoted(folder: Path) -> None:
    names = [b"sub/a,b.png", b"sub/two\nlines.png", b"sub/caf\xe9.png"]
    for index, name in enumerate(names):
        (folder / "sub" / f"{index}.png").rename(folder / os.fsdecode(name))
    rows = [b'"%b",%b' % (name, b"ab"[index % 2 : index % 2 + 1]) for index, name in enumerate(names)]
    (folder / "images.csv").write_bytes(b"\n".join([b"path,label", *rows, *(line.encode() for line in lines()[3:])]))
    splits = load_dataset(folder / "images.csv")
    assert {"sub/a,b.png", r"sub/two\nlines.png", r"sub/caf\udce9.png"} < {*splits.train.ids, *splits.test.ids}


@pytest.mark.parametrize("way", ["../images.csv", "../../link/../images.csv"])
def test_a_path_that_goes_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """As the system goes it: up from where a link leads to. What lies outside stays refused."""
    written(folder, "path,label", lines())
    (tmp_path / "link").symlink_to(folder / "sub")
    monkeypatch.chdir(folder / "sub")
    splits = load_dataset(way)
    assert {*splits.train.ids, *splits.test.ids} == {f"sub/{index}.png" for index in range(10)}
    written(folder, "path,label", [*lines(), "../d/../x.png,a"])
    with pytest.raises(DataError, match=r"lie below its folder; line 12 of .* has '\.\./d/\.\./x\.png'"):
        load_dataset(way)


def test_missing_files_and_links_are_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "0.png").unlink()
    (folder / "sub" / "1.png").rename(tmp_path / "secret.png")
    (folder / "sub" / "1.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (folder / "sub" / "2.png").rename(tmp_path / "elsewhere" / "2.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    rows = [*lines()[:2], "link/2.png,a", *lines()[3:]]
    loaded = load(written(folder, "path,label", rows), Options(max_bad=0.3))
    outside = "a link leads out of the data's folder; put the file itself there"
    assert {bad.id: bad.reason for bad in loaded.left_out} == {
        "sub/0.png": "no such file or directory",
        "sub/1.png": outside,
        "link/2.png": outside,
    }


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "path,label",
            "../x.png,a",
            r"lie below its folder; line 12 of .* has '../x.png'; move the image, or the CSV file",
        ),
        ("path,label", "sub/../../x.png,a", "lie below its folder; line 12"),
        ("path,label", "sub/\0.png,a", r"lie below its folder; line 12 of .* has 'sub/\\x00.png'"),
        ("path,label", "/etc/passwd,a", "lie below its folder; line 12 of .* has '/etc/passwd'"),
        (
            "path,label",
            "sub/./0.png,a",
            "stands once in a CSV file; .* has 'sub/./0.png' in lines 2 and 12; remove one",
        ),
        ("path,label", "sub/x.png,", "has a path and a label; line 12 of .* lacks one; add it or remove the line"),
        ("path,label", "sub/x.png,a,b", "has the 2 columns of the first; line 12 of .* has 3; put a comma"),
        ("path,label", "sub/x.png", "has the 2 columns of the first; line 12 of .* has 1"),
        ("path,label", 'sub/x.png,"a\nb"', r"a class name is printable UTF-8 on one line; got 'a\\nb'"),
        pytest.param(
            "path,label",
            f"sub/x.png,{'a' * 1025}",
            r"a class name has at most 1,024 characters; got one of 1,025: a{60}…; rename the class",
            id="a long class",
        ),
        pytest.param(
            "path,label",
            f"{'./' * 600}sub/x.png,a",
            r"an image's name has at most 1,024 characters; in .*images.csv one has 1,209: [./]{60}…; rename it",
            id="a long path",
        ),
        ("name,label", "", "names the columns path and label, and split if there is one; .* has 'name, label'"),
        ("path,kind", "", "names the columns path and label, .* has 'path, kind'"),
    ],
)
def test_refused(folder: Path, cache: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(written(folder, header, [*lines(), row]))
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("store/*/store.json"))


def test_splits(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"a split is train, validation or test; line 2 of .* has 'holdout'; correct it"
    ):
        load_dataset(written(folder, "path,label,split", lines(",holdout")))
    with pytest.raises(DataError, match=r"data has a training split; .* has only test; add or rename one"):
        load_dataset(written(folder, "path,label,split", lines(",test")))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b'path,label\n"open', b"path,label\n\0,a", b"path,label\n" + b"a" * 200_000]
)
def test_no_csv(folder: Path, content: bytes) -> None:
    (folder / "images.csv").write_bytes(content)
    with pytest.raises((DamagedFile, DataError)) as caught:
        load_dataset(folder / "images.csv")
    assert "\n" not in str(caught.value)


def test_one_class(folder: Path) -> None:
    rows = [line.replace(",b", ",a") for line in lines()]
    with pytest.raises(
        DataError, match=r"a classifier needs two classes or more; .*images.csv has only 'a'; add a class"
    ):
        load_dataset(written(folder, "path,label", rows))
