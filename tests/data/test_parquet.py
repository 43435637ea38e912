"""Parquet in the layout of the Hugging Face hub: what is understood, and what a file may have instead."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import making
from peregrine.data import image_files, parquet
from peregrine.data.base import Options
from peregrine.data.sources import load, load_dataset
from peregrine.data.splitting import LONGEST_NAME
from peregrine.errors import CheckFailed, DamagedFile, DataError

NAMES = ("zebra", "ant")  # not in alphabetical order


def items(count: int = 20, seed: int = 0) -> list[tuple[bytes, Any]]:
    return [(content, index % 2) for index, content in enumerate(making.encoded(count, seed=seed))]


def test_names_and_order_come_from_the_metadata(tmp_path: Path) -> None:
    making.parquet(tmp_path / "train.parquet", items(), NAMES)
    making.parquet(tmp_path / "test.parquet", items(6, seed=1), NAMES)
    splits = load_dataset(tmp_path)
    assert splits.class_names == NAMES
    assert splits.train.labels.tolist() == [0, 1] * 10
    np.testing.assert_array_equal(splits.train.images, making.images(20, 16))
    np.testing.assert_array_equal(splits.test.images, making.images(6, 16, seed=1))
    assert splits.train.ids.tolist()[:2] == ["train/0", "train/1"]
    assert splits.notes == ()


@pytest.mark.parametrize(
    ("character", "length", "name"), [("x", 1024, "0.png"), ("x", 1_000_000, "d/0"), ("\n", 600, "d/0"), ("", 0, "d/0")]
)
def test_paths_name_the_images_if_they_can(tmp_path: Path, character: str, length: int, name: str) -> None:
    """One that is very long, or is so when it is escaped, would give all rows its room."""
    cells = [{"bytes": content, "path": f"{index}.png"} for index, (content, _) in enumerate(items())]
    cells[3]["path"] = character * length
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1] * 10}), tmp_path / "d.parquet")
    splits = load_dataset(tmp_path / "d.parquet")
    assert name in {*splits.train.ids, *splits.test.ids}
    assert splits.train.ids.itemsize <= 4 * LONGEST_NAME


def test_one_file_is_split(tmp_path: Path) -> None:
    splits = load_dataset(making.parquet(tmp_path / "photos.parquet", items(), NAMES))
    assert (len(splits.train), len(splits.test)) == (16, 4)
    # rows of both splits are of one file, and each has the pixels of its own row
    for part in (splits.train, splits.test):
        rows = [int(name.rpartition("/")[2]) for name in part.ids]
        np.testing.assert_array_equal(part.images, making.images(20, 16)[rows])


def test_validation_becomes_the_test_split_where_there_is_none(tmp_path: Path) -> None:
    making.parquet(tmp_path / "train-00000-of-00001.parquet", items(), NAMES)
    making.parquet(tmp_path / "validation-00000-of-00001.parquet", items(6, seed=1), NAMES)
    splits = load_dataset(tmp_path)
    assert splits.validation is None
    assert len(splits.test) == 6
    assert splits.notes == ("the data has no test split, so its validation split is the test split",)


def test_the_layout_of_the_hubs_own_conversion(tmp_path: Path) -> None:
    for name, seed in (("train", 0), ("valid", 1), ("test", 2)):
        making.parquet(tmp_path / "default" / name / "0000.parquet", items(seed=seed), NAMES, ("img", "label"))
    splits = load_dataset(tmp_path)
    assert splits.validation is not None
    np.testing.assert_array_equal(splits.validation.images, making.images(20, 16, seed=1))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([3, 11] * 10, ("11", "3")), (["b", "a"] * 10, ("a", "b"))],
)
def test_labels_without_metadata(tmp_path: Path, labels: list[Any], expected: tuple[str, ...]) -> None:
    contents = [content for content, _ in items()]
    making.parquet(tmp_path / "d.parquet", list(zip(contents, labels, strict=True)))
    assert load_dataset(tmp_path / "d.parquet").class_names == expected


def test_bare_bytes_and_other_columns(tmp_path: Path) -> None:
    contents, labels = zip(*items(), strict=True)
    table = pyarrow.table({"image": list(contents), "fine_label": list(labels), "other": [["x"]] * 20})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert len(load_dataset(tmp_path / "d.parquet").train) == 16


def test_a_column_named_like_a_field_and_types_that_are_views(tmp_path: Path) -> None:
    contents, labels = zip(*items(), strict=True)
    columns = {
        "image": pyarrow.array(contents, pyarrow.binary_view()),
        "label": pyarrow.array(["ab"[label] for label in labels], pyarrow.string_view()),
        "image.path": ["x"] * len(labels),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
    assert load_dataset(tmp_path / "d.parquet").class_names == ("a", "b")


def test_large_images_of_one_group_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_READ_BYTES", 1)
    making.parquet(tmp_path / "d.parquet", items(), NAMES)
    assert len(load_dataset(tmp_path / "d.parquet").train) == 16


def test_a_dictionary_is_not_unfolded_at_once(tmp_path: Path) -> None:
    """A megabyte on disk that would be six gigabytes in memory."""
    content = bytes(20 << 20)
    dictionary = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 300, pyarrow.int32()), pyarrow.array([content])
    )
    made = pyarrow.table({"image": dictionary, "label": [index % 2 for index in range(300)]})
    pyarrow.parquet.write_table(made, tmp_path / "d.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "d.parquet").stat().st_size < 1 << 20
    listing = parquet.scan(tmp_path / "d.parquet", 0)
    before = pyarrow.default_memory_pool().max_memory()
    assert sum(len(read()) for read in listing.contents(listing.entries[:20])) == 20 * len(content)
    assert pyarrow.default_memory_pool().max_memory() - before < 300 << 20


def test_unreadable_rows_are_left_out_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_BYTES", 10_000)
    rows = items()
    rows[2], rows[5], rows[7] = (b"text", 0), (None, 1), (b"x" * 10_001, 1)  # type: ignore[assignment]
    loaded = load(making.parquet(tmp_path / "d.parquet", rows, NAMES), Options(max_bad=0.15))
    assert {bad.id: bad.reason for bad in loaded.left_out} == {
        "d/2": "not a JPEG, PNG, WEBP or BMP image",
        "d/5": "the row has no bytes",
        "d/7": "10,001 bytes are more than 10,000",
    }
    with pytest.raises(CheckFailed, match=r"at most 1.0% of the images may be unreadable; .* 3 of 20: d/2 \(not a"):
        load_dataset(tmp_path / "d.parquet")


def table(columns: dict[str, Any], metadata: object = None) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        made = pyarrow.table(columns)
        if metadata is not None:
            text = metadata if isinstance(metadata, str) else json.dumps({"info": {"features": metadata}})
            made = made.replace_schema_metadata({"huggingface": text})
        pyarrow.parquet.write_table(made, path)

    return write


def of(labels: list[Any], names: Any = NAMES) -> Callable[[Path], object]:
    contents = making.encoded(len(labels))
    return lambda path: making.parquet(path, list(zip(contents, labels, strict=True)), names)


BYTES = making.encoded(4)
REFUSED: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no image column": (
        table({"picture": BYTES, "label": [0] * 4}),
        DataError,
        "a column image or img; .* has picture, l",
    ),
    "two label columns": (
        lambda path: pyarrow.parquet.write_table(
            pyarrow.Table.from_arrays(
                [pyarrow.array(BYTES), *[pyarrow.array([0, 1, 0, 1])] * 2], ["image", "label", "label"]
            ),
            path,
        ),
        DataError,
        "columns have names of their own; .* has 'label' twice; rename one",
    ),
    "no label column": (table({"image": BYTES, "name": [0] * 4}), DataError, "a column label; .* has image, name"),
    "image is text": (
        table({"image": ["a"] * 4, "label": [0] * 4}),
        DataError,
        "holds encoded images, .* it is string",
    ),
    "image is pixels": (
        table({"image": [[[1, 2]]] * 4, "label": [0] * 4}),
        DataError,
        "holds encoded images, as bytes or .* it is list<",
    ),
    "image is another struct": (
        table({"image": [{"url": "x"}] * 4, "label": [0] * 4}),
        DataError,
        "holds encoded images, .* it is struct<url: string>",
    ),
    "label is a fraction": (
        table({"image": BYTES, "label": [0.5] * 4}),
        DataError,
        "whole numbers or names; .* is double",
    ),
    "label out of range": (
        of([0, 1, 7, 0]),
        DataError,
        "labels are 0 to 1, for 2 class names; row 2 of .* has 7; correct",
    ),
    "label below the range": (
        of([0, 1, 0, -1]),
        DataError,
        "labels are 0 to 1, .* row 3 of .*d.parquet has -1; correct",
    ),
    "no label": (of([0, 1, None, 0]), DataError, "every image has a label; row 2 of .* has none; add it or remove"),
    "a class without an image": (
        of([0, 1] * 4, ("a", "b", "c")),
        DataError,
        "every class has an image; .* class 'c' has",
    ),
    "a name twice": (
        of([0, 1] * 4, ("a", "a")),
        DataError,
        "class names differ from each other; .* has 'a' twice; rename",
    ),
    "a name in two lines": (
        of([0, 1] * 4, ("a\nb", "c")),
        DataError,
        r"a class name is printable .* got 'a\\nb'; rename",
    ),
    "names are none": (
        table({"image": BYTES, "label": [0] * 4}, {"label": {"_type": "ClassLabel", "names": [1, 2]}}),
        DataError,
        r"the names of a ClassLabel are a list of texts; .* has \[1, 2\]",
    ),
    "metadata is none": (
        table({"image": BYTES, "label": [0] * 4}, "{"),
        DataError,
        "the metadata 'huggingface' of a Parquet file is JSON with info.features; .* has {",
    ),
    "no Parquet": (
        lambda path: path.write_text("text" * 100),
        DamagedFile,
        r"no whole Parquet file \(.*\); get it again",
    ),
    "empty": (lambda path: path.write_bytes(b""), DamagedFile, r"is no whole Parquet file \(.*\); get it again"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(tmp_path: Path, cache: Path, kind: str) -> None:
    write, error, message = REFUSED[kind]
    write(tmp_path / "d.parquet")
    with pytest.raises(error, match=message) as caught:
        load_dataset(tmp_path / "d.parquet")
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("store/*/store.json"))


def test_damaged_anywhere(tmp_path: Path) -> None:
    """A file that was cut, or in which something was changed: told, left out, or harmless, and never a crash."""
    whole = making.parquet(tmp_path / "d.parquet", items(), NAMES).read_bytes()
    (tmp_path / "damaged").mkdir()
    generator = np.random.default_rng(0)
    for number in range(40):
        content = bytearray(whole if number % 4 else whole[: generator.integers(len(whole))])
        for place in generator.integers(len(content), size=number % 4 * 3):
            content[place] = generator.integers(256)
        path = tmp_path / "damaged" / f"{number}.parquet"
        path.write_bytes(content)
        with contextlib.suppress(DamagedFile, DataError):
            load_dataset(path, size=16, max_bad=1)


def test_a_huge_row_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.parquet(tmp_path / "d.parquet", items(), NAMES)
    monkeypatch.setattr(image_files, "MAX_BYTES", 500)
    with pytest.raises(DamagedFile, match=r"it announces [\d,]+ bytes for \d rows"):
        load_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train-00000-of-00003", "train-00002-of-00003"],
            "tell of 3 for train; train-00001-of-00003.parquet is missing",
        ),
        (
            ["train-00000-of-00001", "extra"],
            "all shards tell a split, .* 'extra.parquet' tells none; rename or remove it",
        ),
        (["test-00000-of-00001"], "data has a training split; .* has only test; add or rename one"),
        (["one/train", "two/train"], "one data set lie in one folder, .* has some in one, two; name one of these"),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, names: list[str], message: str) -> None:
    for seed, name in enumerate(names):
        making.parquet(tmp_path / "d" / f"{name}.parquet", items(seed=seed), NAMES)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "d")


def test_names_of_shards_that_differ(tmp_path: Path) -> None:
    making.parquet(tmp_path / "train.parquet", items(), NAMES)
    making.parquet(tmp_path / "test.parquet", items(seed=1), NAMES[::-1])
    with pytest.raises(DataError, match=r"all shards have the same class names in their metadata; those in .* differ"):
        load_dataset(tmp_path)


def test_a_class_that_one_split_lacks(tmp_path: Path) -> None:
    making.parquet(tmp_path / "train.parquet", items(), NAMES)
    making.parquet(tmp_path / "test.parquet", [(content, 0) for content, _ in items(4, seed=1)], NAMES)
    with pytest.raises(
        DataError, match=r"every split has the same classes; .* class 'ant' is in train and not in test"
    ):
        load_dataset(tmp_path)


def test_a_bomb_in_a_row(tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    rows = [*items(), ((tmp_path / "bomb.png").read_bytes(), 0)]
    loaded = load(making.parquet(tmp_path / "d.parquet", rows, NAMES), Options(max_bad=0.1))
    assert [(bad.id, bad.reason) for bad in loaded.left_out] == [("d/20", "more than 64,000,000 pixels")]


def test_hostile_paths_are_only_names(tmp_path: Path) -> None:
    contents, labels = zip(*items(), strict=True)
    paths = ["../../evil.png", "/etc/passwd", "two\nlines.png", *(f"{index}.png" for index in range(3, 20))]
    cells = [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": list(labels)}), tmp_path / "d.parquet")
    before = set(tmp_path.rglob("*"))
    splits = load_dataset(tmp_path / "d.parquet")
    assert {"../../evil.png", "/etc/passwd", r"two\nlines.png"} < {*splits.train.ids, *splits.test.ids}
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
