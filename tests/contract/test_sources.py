"""What every source and every layout promises; a new one adds a line to `NAMED` or `PLACED`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import making
from peregrine import catalog
from peregrine.data.base import Options, Resize
from peregrine.data.sources import fetch, load, load_dataset


@dataclass(frozen=True)
class Case:
    """A way to name data, and what makes it available below an empty folder; returns what to call it."""

    kind: str
    key: str
    make: Callable[[Path], str]
    own_size: int


def named(key: str, write: Callable[[Path], object]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        write(folder / "data" / key)
        return key

    return make


def placed(write: Callable[[Path], object]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        write(folder / "placed")
        return str(folder / "placed")

    return make


CASES = {
    "digits": Case("source", "digits", lambda folder: "digits", 8),
    "cifar10": Case("source", "cifar10", named("cifar10", making.cifar10_binary), 32),
    "cifar100": Case("source", "cifar100", named("cifar100", making.cifar100_python), 32),
    "cifar10-binary-folder": Case("layout", "cifar10", placed(making.cifar10_binary), 32),
    "cifar10-python-folder": Case("layout", "cifar10", placed(making.cifar10_python), 32),
    "cifar100-binary-folder": Case("layout", "cifar100", placed(making.cifar100_binary), 32),
    "cifar100-python-folder": Case("layout", "cifar100", placed(making.cifar100_python), 32),
    "folder": Case("layout", "folder", placed(making.photos), 16),
    "split-folder": Case("layout", "folder", placed(making.split_photos), 16),
    "folder-with-validation": Case(
        "layout", "folder", placed(lambda folder: making.split_photos(folder, ("train", "validation", "test"))), 16
    ),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, a data folder and a cache."""
    for name in ("work", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PEREGRINE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def source(case: Case, workplace: Path) -> str:
    return case.make(workplace)


def test_nobody_is_forgotten() -> None:
    covered = {(case.kind, case.key) for case in CASES.values()}
    assert covered == {(kind, key) for kind in ("source", "layout") for key in catalog.CATALOG[kind]}


def test_splits(case: Case, source: str) -> None:
    splits = load_dataset(source)
    assert splits.source == source
    seen: set[str] = set()
    for part in (splits.train, splits.validation, splits.test):
        if part is None:
            continue
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), case.own_size, case.own_size, 3)
        assert part.images.flags.c_contiguous
        assert part.labels.dtype == np.int64
        assert part.class_names == splits.class_names
        assert (part.counts > 0).all()
        ids = set(part.ids.tolist())
        assert len(ids) == len(part)
        assert all(name.isprintable() and name for name in ids)
        assert not ids & seen
        seen |= ids
    assert len(splits.class_names) >= 2


def test_loading_twice_gives_the_same(source: str) -> None:
    one, other = load_dataset(source, seed=3), load_dataset(source, seed=3)
    assert one.notes == other.notes
    for first, second in ((one.train, other.train), (one.test, other.test)):
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)
        np.testing.assert_array_equal(first.ids, second.ids)
        assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_other_size(source: str, resize: Resize) -> None:
    own, other = load_dataset(source), load_dataset(source, size=20, resize=resize)
    for before, after in ((own.train, other.train), (own.test, other.test)):
        assert after.images.shape == (len(before), 20, 20, 3)
        np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(after.ids, before.ids)


def test_nothing_is_written_outside_the_cache(source: str, workplace: Path) -> None:
    def everything() -> dict[Path, int]:
        walked = (Path(parent, name) for parent, _, names in os.walk(workplace) for name in names)
        return {path: path.stat().st_mtime_ns for path in walked if workplace / "cache" not in path.parents}

    before = everything()
    load_dataset(source)
    assert everything() == before


def test_fetch_names_the_place(source: str, workplace: Path) -> None:
    place = fetch(source)
    assert place is None or (place.is_dir() and workplace in place.parents)


def test_nothing_left_out(source: str) -> None:
    assert load(source, Options()).left_out == ()


def test_recognised_by_its_own_layout_only(case: Case, source: str) -> None:
    if case.kind == "layout":
        found = [key for key in catalog.CATALOG["layout"] if catalog.load("layout", key).recognises(Path(source))]
        assert found == [case.key]
