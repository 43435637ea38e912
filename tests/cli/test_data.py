"""`peregrine data`, from the command line."""

import json
from pathlib import Path

import pytest

import making
from peregrine.__main__ import run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


def test_stats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    making.split_photos(tmp_path / "d", size=20)
    making.photos(tmp_path / "d" / "train", classes=["dog2"], each=2, size=24)
    making.photos(tmp_path / "d" / "test", classes=["dog2"], each=5, size=24, seed=9)
    assert run(["data", "stats", str(tmp_path / "d"), "--size", "16", "--json"]) == 0
    out = capsys.readouterr().out
    assert "sizes of the files: 20×20 to 24×24 pixels, median 20×20, 2 different" in out
    assert "balance, the smallest class over the largest: 0.40 in train, 1.00 in test" in out
    told = json.loads(out.splitlines()[-1])
    assert told["original"]["width"] == {"smallest": 20, "median": 20.0, "largest": 24}
    assert told["splits"]["train"]["balance"] == 0.4
    assert len(told["mean"]) == len(told["std"]) == 3


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    making.split_photos(tmp_path / "d")
    assert run(["data", "export", str(tmp_path / "d"), str(tmp_path / "there"), "--to", "webdataset", "--json"]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/there holds 10 train, 10 test images of 2 classes as webdataset" in out
    assert json.loads(out.splitlines()[-1])["images"] == {"train": 10, "test": 10}
    assert run(["data", "export", str(tmp_path / "d"), str(tmp_path / "there"), "--to", "webdataset"]) == 2
    assert "a new or an empty folder" in capsys.readouterr().err


def test_prepare_pads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    making.split_photos(tmp_path / "d", size=20)
    assert run(["data", "prepare", str(tmp_path / "d"), "--size", "16", "--resize", "pad"]) == 0
    assert "is ready: 10 train, 10 test images of 16×16 pixels" in capsys.readouterr().out
