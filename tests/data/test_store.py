"""The store behind folders and shards: prepared once, seen to be unchanged, whole after a kill, shared by processes."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import making
from peregrine import progress
from peregrine.data import packing, preparing, store
from peregrine.data.base import Options
from peregrine.data.sources import load, load_dataset
from peregrine.errors import CheckFailed, MachineError


@pytest.fixture
def bars() -> Iterator[list[str]]:
    """The labels of all progress bars: what was read and prepared."""
    shown: list[str] = []

    class Display:
        def bar(self, label: str, total: int | None, unit: str) -> "Display":
            shown.append(label)
            return self

        def __enter__(self) -> progress.Advance:
            return lambda amount=1, note="": None

        def __exit__(self, *_: object) -> None: ...

    with progress.show_on(Display()):
        yield shown


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough at once."""
    monkeypatch.setattr(preparing, "_SETTLED_S", -10.0)


@pytest.mark.usefixtures("settled")
def test_prepared_once(tmp_path: Path, bars: list[str], cache: Path) -> None:
    making.photos(tmp_path / "d")
    first = load_dataset(tmp_path / "d")
    assert bars == ["measure images", "prepare images"]
    second = load_dataset(tmp_path / "d")
    assert bars == ["measure images", "prepare images"]
    assert first.train.fingerprint == second.train.fingerprint
    assert first.notes == second.notes
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    load_dataset(tmp_path / "copy")
    assert len(list(cache.glob("store/*/store.json"))) == 1, "the same content has the same store"
    assert not list(cache.glob("store/work/*"))


@pytest.mark.usefixtures("settled")
def test_prepared_at_its_own_size_and_asked_for_at_that(tmp_path: Path, bars: list[str]) -> None:
    """As the verbs that come after `train` do."""
    for name, size in (("cat", 40), ("dog", 50)):
        making.photos(tmp_path / "d", [name], size=size)
    own, again = load_dataset(tmp_path / "d"), load_dataset(tmp_path / "d", size=48)
    assert bars == ["measure images", "prepare images"]
    assert again.train.image_size == (48, 48)
    assert again.train.fingerprint == own.train.fingerprint
    why = "the images are prepared at 48×48, from a median shorter side of 45 pixels"
    assert own.notes == (*again.notes, why), "who names a size knows it"
    load_dataset(tmp_path / "d", size=40)
    load_dataset(tmp_path / "d", size=48, resize="pad")
    assert bars[2:] == ["prepare images"] * 2


@pytest.mark.parametrize("first", [16, None])
def test_fresh_files_are_read_again(
    tmp_path: Path, bars: list[str], monkeypatch: pytest.MonkeyPatch, first: int | None
) -> None:
    """As their times cannot tell whether they changed; once they are old enough, for the last time."""
    making.photos(tmp_path / "d")
    load_dataset(tmp_path / "d", size=first)
    load_dataset(tmp_path / "d", size=16)
    assert bars[-2:] == ["prepare images", "read images"]
    monkeypatch.setattr(preparing, "_SETTLED_S", -10.0)
    load_dataset(tmp_path / "d", size=16)
    load_dataset(tmp_path / "d", size=16)
    assert bars[-3:] == ["prepare images", "read images", "read images"]


def test_a_fresh_file_that_changed_within_a_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.photos(tmp_path / "d", suffix=".bmp")
    monkeypatch.setattr(preparing, "_stamp", lambda paths: ("the same", time.time()))
    before = load_dataset(tmp_path / "d")
    path = tmp_path / "d" / "cat" / "0.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    after = load_dataset(tmp_path / "d")
    assert (before.train.fingerprint, before.test.fingerprint) != (after.train.fingerprint, after.test.fingerprint)


@pytest.mark.usefixtures("settled")
def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """Even with the same name, the same size and the same time of modification."""
    making.photos(tmp_path / "d", suffix=".bmp")
    path = tmp_path / "d" / "cat" / "0.bmp"
    before, times = load_dataset(tmp_path / "d"), path.stat()
    time.sleep(0.05)  # more than a tick of the file system's clock
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = load_dataset(tmp_path / "d")
    assert (before.train.fingerprint, before.test.fingerprint) != (after.train.fingerprint, after.test.fingerprint)
    path.write_bytes(content)
    again = load_dataset(tmp_path / "d")
    assert (before.train.fingerprint, before.test.fingerprint) == (again.train.fingerprint, again.test.fingerprint)


def test_a_file_that_changes_while_it_is_prepared(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.photos(tmp_path / "d")
    pack = packing.pack

    def meanwhile(*arguments: Any) -> Any:
        rows = pack(*arguments)
        (tmp_path / "d" / "cat" / "0.png").touch()
        return rows

    monkeypatch.setattr(packing, "pack", meanwhile)
    with pytest.raises(CheckFailed, match=r"/d changed while it was being read; wait until nothing writes, run again"):
        load_dataset(tmp_path / "d")
    assert not list(cache.glob("store/work/*"))
    assert not list(cache.glob("store/seen/*.json"))


def test_what_is_in_it(tmp_path: Path, cache: Path) -> None:
    making.split_photos(tmp_path / "d", size=20)
    loaded = load(tmp_path / "d", Options(size=16))
    (index,) = cache.glob("store/*/index.parquet")
    rows = pyarrow.parquet.read_table(index).to_pylist()
    assert [row["id"] for row in rows] == [*loaded.splits.train.ids.tolist(), *loaded.splits.test.ids.tolist()]
    assert rows[0] == {
        "id": "train/cat/0.png",
        "split": "train",
        "label": 0,
        "sha256": hashlib.sha256((tmp_path / "d" / "train" / "cat" / "0.png").read_bytes()).hexdigest(),
        "width": 20,
        "height": 20,
    }
    assert loaded.sizes is not None
    assert loaded.sizes.tolist() == [[20, 20]] * 20
    assert isinstance(loaded.splits.train.images, np.memmap)
    assert not loaded.splits.train.images.flags.writeable


@pytest.mark.parametrize("damage", ["images.npy", "index.parquet", "store.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
@pytest.mark.usefixtures("settled")
def test_a_damaged_store_is_prepared_again(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, damage: str, how: str
) -> None:
    making.photos(tmp_path / "d")
    whole = load_dataset(tmp_path / "d").train.fingerprint  # before the file under the map is cut
    (path,) = cache.glob(f"store/*/{damage}")
    content = path.read_bytes()
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content[:-3] + b"\xff" + content[-2:])
    again = load_dataset(tmp_path / "d")
    assert again.train.fingerprint == whole
    assert path.read_bytes() == content
    assert "preparing them again" in caplog.text or (damage, how) == ("store.json", "remove")


def prepare(path: Path, cache: Path) -> None:
    before, os.environ["PEREGRINE_CACHE"] = os.environ["PEREGRINE_CACHE"], str(cache)
    load_dataset(path, size=16)
    os.environ["PEREGRINE_CACHE"] = before


def contents(cache: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for folder in cache.glob("store/*")
        if folder.name not in ("seen", "work")
        for path in folder.glob("*")
    }


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_the_very_end(
    tmp_path: Path, cache: Path, bars: list[str], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Around the move of the finished store: nothing is decoded twice."""
    making.photos(tmp_path / "d", each=30)
    keep = store.keep

    def killed(*arguments: Any) -> None:
        if moment == "after":
            keep(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            load_dataset(tmp_path / "d", size=16)
    decoded: list[Any] = []
    decode = packing.decode
    monkeypatch.setattr(packing, "decode", lambda content: decoded.append(content) or decode(content))
    load_dataset(tmp_path / "d", size=16)
    assert decoded == []
    assert not list(cache.glob("store/work/*"))
    prepare(tmp_path / "d", tmp_path / "other")
    assert len(decoded) == 60
    assert contents(cache) == contents(tmp_path / "other")


@pytest.mark.parametrize("damage", ["images", "journal", "cut"])
def test_unfinished_work_that_was_damaged_is_made_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """As after a power cut, which may take any part of what was not flushed to disk."""
    monkeypatch.setattr(packing, "_BLOCK", 10)
    making.photos(tmp_path / "d", each=30)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            load_dataset(tmp_path / "d", size=16)
    (images,), (journal,) = cache.glob("store/work/*/store/images.npy"), cache.glob("store/work/*/journal.jsonl")
    path = journal if damage == "journal" else images
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    decoded: list[Any] = []
    decode = packing.decode
    monkeypatch.setattr(packing, "decode", lambda content: decoded.append(content) or decode(content))
    load_dataset(tmp_path / "d", size=16)
    assert 16 <= len(decoded) <= 44, "the blocks before the damage count"
    prepare(tmp_path / "d", tmp_path / "other")
    assert contents(cache) == contents(tmp_path / "other")


def test_changed_data_is_prepared_from_the_beginning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.photos(tmp_path / "d")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            load_dataset(tmp_path / "d", size=16)
    making.photos(tmp_path / "d", classes=["fox"], seed=3)
    assert load_dataset(tmp_path / "d", size=16).class_names == ("cat", "dog", "fox")
    prepare(tmp_path / "d", tmp_path / "other")
    assert contents(cache) == contents(tmp_path / "other")


def test_two_at_once(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d", each=100)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=prepare, args=(tmp_path / "d", cache)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(contents(cache)) == 3


def test_full_disk(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d", each=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MachineError, match=r"cannot read or write .*/cache: file too large"):
            load_dataset(tmp_path / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.glob("store/work/*")), "what fills a disk does not stay there"
    assert not list(cache.glob("store/*/store.json"))


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.photos(tmp_path / "d")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"cannot read or write .*/file.*: not a directory"):
        load_dataset(tmp_path / "d")
