"""`load_dataset`: how data is named, and what is said about names that do not work."""

import re
from pathlib import Path
from typing import Any

import pytest

import making
from peregrine import catalog
from peregrine.data import sources
from peregrine.data.sources import load_dataset
from peregrine.errors import DataError, UsageError


def test_digits() -> None:
    splits = load_dataset("digits")
    assert splits.source == "digits"
    assert splits.train.images.shape == (1438, 8, 8, 3)
    assert splits.test.images.shape == (359, 8, 8, 3)
    assert splits.class_names == tuple("0123456789")
    assert splits.train.images.max() == 255
    assert (splits.train.images == splits.train.images[..., :1]).all()
    assert splits.test.ids[0].startswith("digits/")
    # the split is part of the data, so it is the same for every seed, and for ever
    assert load_dataset("digits", seed=5).test.fingerprint == splits.test.fingerprint
    assert splits.test.fingerprint == "b9f687091bebdfb9413e743c86a5b77a2d2153842c517d3c23071c99800dce05"
    assert load_dataset("digits", size=16).test.images.shape == (359, 16, 16, 3)


def test_relative_path_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.photos(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_dataset("d").source == load_dataset("~/d").source == str(tmp_path / "d")


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = making.parquet_shards(tmp_path / "data [1]")
    assert len(load_dataset(shards / "data" / "*.parquet").train) == 20
    monkeypatch.chdir(shards / "data")
    assert len(load_dataset("*.parquet").train) == 20


def test_a_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.photos(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("digits").source == "digits"
    assert load_dataset("./digits").class_names == ("cat", "dog")
    assert load_dataset(Path("digits")).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("cifar11", "cifar10"),
        ("photoss", "photos"),
        ("nothing like it", None),
        ("photos/*.parquet", None),
        ("", None),
        ("~nobody/x", None),
    ],
)
def test_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, near: str | None) -> None:
    making.photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    ending = f"; did you mean {near!r}\\?$" if near else "$"
    rule = (
        rf"data is digits, cifar10, cifar100, hf://owner/name, or an existing folder or file; got '{re.escape(source)}'"
    )
    with pytest.raises(UsageError, match=rule + ending) as caught:
        load_dataset(source)
    assert caught.value.exit_code == 2


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"data is a folder of CIFAR batches, .*data\.zip: the file is none of the last three; see `per"
    ):
        load_dataset(tmp_path / "data.zip")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data is a folder of CIFAR batches, .*: it holds none of them; see `peregrine data"
    ):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4}, "an image size is 8 to 1024 pixels; got 4"),
        ({"size": 5000}, "an image size is 8 to 1024 pixels; got 5000"),
        ({"resize": "stretch"}, "resize is crop or pad; got 'stretch'"),
        ({"max_bad": 1.5}, "max-bad is a fraction, 0 to 1, or 0% to 100%; got 1.5"),
        ({"max_bad": float("nan")}, "max-bad is a fraction"),
        ({"seed": -1}, "a seed is 0 or more; got -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_dataset("digits", **settings)


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.fetch("digits") is None
    making.cifar10_binary(tmp_path / "data" / "cifar-10-batches-bin")
    assert sources.fetch(tmp_path / "data") == tmp_path / "data"
    monkeypatch.setenv("PEREGRINE_DATA", str(tmp_path / "data"))
    assert sources.fetch("cifar10") == tmp_path / "data" / "cifar-10-batches-bin"
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        sources.fetch("digit")


def test_every_source_is_listed_with_a_summary() -> None:
    assert all(entry.summary for kind in ("source", "layout", "address") for entry in catalog.CATALOG[kind].values())
