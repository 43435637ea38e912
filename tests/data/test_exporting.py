"""Data in another format: the same images, the files themselves, and nothing at all if anything is wrong."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import making
from peregrine.data import parquet, shards, webdataset
from peregrine.data.base import Options
from peregrine.data.exporting import FORMATS, export
from peregrine.data.sources import load_dataset
from peregrine.errors import CheckFailed, DataError, UsageError


def every_file(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.suffix in (".png", ".jpg")}


@pytest.mark.parametrize("to", FORMATS)
def test_from_a_folder_and_back(tmp_path: Path, to: str) -> None:
    folder = making.split_photos(tmp_path / "d", ("train", "validation", "test"), size=20, suffix=".jpg")
    told = export(folder, to, tmp_path / "there", Options())
    assert told["images"] == {"train": 10, "validation": 10, "test": 10}
    assert (told["format"], told["folder"], told["left_out"]) == (to, str(tmp_path / "there"), 0)
    before, after = load_dataset(folder, size=16), load_dataset(tmp_path / "there", size=16)
    for name in ("train", "validation", "test"):
        one, other = before.part(name), after.part(name)
        assert one.fingerprint == other.fingerprint
        np.testing.assert_array_equal(one.images, other.images)
    export(tmp_path / "there", "folder", tmp_path / "back", Options())
    assert every_file(tmp_path / "back") == every_file(folder), "byte for byte"


@pytest.mark.parametrize("to", FORMATS)
def test_pixels(tmp_path: Path, to: str) -> None:
    export("digits", to, tmp_path / "d", Options())
    digits, splits = load_dataset("digits"), load_dataset(tmp_path / "d")
    assert splits.test.fingerprint == digits.test.fingerprint
    assert splits.class_names == digits.class_names


def test_another_size(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "d", size=20)
    export(folder, "parquet", tmp_path / "there", Options(size=12, resize="pad"))
    assert (
        load_dataset(tmp_path / "there").train.fingerprint
        == load_dataset(folder, size=12, resize="pad").train.fingerprint
    )


def test_what_the_hub_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_SHARD_BYTES", 4000)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 2)
    folder = making.split_photos(tmp_path / "d")
    export(folder, "parquet", tmp_path / "there", Options())
    names = sorted(path.name for path in (tmp_path / "there").iterdir())
    assert names[0] == f"test-00000-of-{len(names) // 2:05d}.parquet"
    assert len(names) > 2
    file = pyarrow.parquet.ParquetFile(tmp_path / "there" / names[0])
    assert file.metadata.row_group(0).num_rows == 2
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    row = file.read().to_pylist()[0]
    assert row == {
        "image": {"bytes": (folder / "test" / "cat" / "0.png").read_bytes(), "path": "test/cat/0.png"},
        "label": 0,
    }
    assert load_dataset(tmp_path / "there").train.fingerprint == load_dataset(folder).train.fingerprint


def test_several_tar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "_SHARD_BYTES", 4000)
    folder = making.split_photos(tmp_path / "d")
    export(folder, "webdataset", tmp_path / "there", Options())
    assert len(shards.shards(tmp_path / "there", ".tar")) > 2
    assert load_dataset(tmp_path / "there").train.fingerprint == load_dataset(folder).train.fingerprint


def test_damaged_files_stay_behind(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "d")
    (folder / "train" / "cat" / "2.png").write_bytes(b"")
    with pytest.raises(CheckFailed, match=r"at most 1.0% of the images may be unreadable; .* it is 1 of 20"):
        export(folder, "parquet", tmp_path / "there", Options())
    assert export(folder, "parquet", tmp_path / "there", Options(max_bad=0.1))["left_out"] == 1
    assert len(load_dataset(tmp_path / "there").train) == 9


@pytest.mark.parametrize("name", ["../evil", "/evil", ".evil", "a\\b"])
def test_class_names_that_are_no_folders(tmp_path: Path, name: str) -> None:
    items: list[Any] = [(content, index % 2) for index, content in enumerate(making.encoded(20))]
    making.parquet(tmp_path / "d.parquet", items, (name, "b"))
    with pytest.raises(DataError, match=r"the name of a folder has no slash and does not begin with a dot; got class"):
        export(tmp_path / "d.parquet", "folder", tmp_path / "there" / "deep", Options())
    assert os.listdir(tmp_path / "there") == []  # noqa: PTH208


def test_wrong_formats_and_places(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"exported to parquet, folder, webdataset; got 'paquet'; did you mean 'parquet'"
    ):
        export("digits", "paquet", tmp_path / "there", Options())
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"exported to a new or an empty folder; .*/there is neither; name another"):
        export("digits", "parquet", tmp_path / "there", Options())
    assert (tmp_path / "there" / "thesis.txt").read_text() == "years of work"
