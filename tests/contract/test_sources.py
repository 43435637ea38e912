"""What every source and every layout promises; a new one adds a line to `NAMED` or `PLACED`."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import hub_server
import making
from peregrine import catalog
from peregrine.data.base import Options, Resize
from peregrine.data.exporting import export
from peregrine.data.sources import fetch, listing, load, load_dataset


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
    "parquet": Case("layout", "parquet", placed(making.parquet_shards), 16),
    "parquet-pattern": Case(
        "layout", "parquet", lambda folder: f"{making.parquet_shards(folder / 'p')}/data/t*.parquet", 16
    ),
    "webdataset": Case("layout", "webdataset", placed(making.tar_shards), 16),
    "csv": Case("layout", "csv", lambda folder: str(making.csv_file(folder / "placed")), 16),
    "hub": Case("address", "hf://", lambda folder: f"hf://owner/name@{hub_server.COMMIT}", 16),
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
def source(case: Case, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if case.kind != "address":
        yield case.make(workplace)
        return
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is not installed")
    making.parquet_shards(workplace / "cache" / "served")
    files = {f"data/{path.name}": path.read_bytes() for path in workplace.glob("cache/served/data/*")}
    with hub_server.serving(files) as hub:
        # the library has read its settings when it was imported
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(workplace / "cache" / "hub-of-the-library"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield case.make(workplace)


def test_nobody_is_forgotten() -> None:
    covered = {(case.kind, case.key) for case in CASES.values()}
    assert covered == {(kind, key) for kind in ("source", "layout", "address") for key in catalog.CATALOG[kind]}


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


def test_without_a_seed_nothing_is_drawn(source: str) -> None:
    """What tells no splits is all test then."""
    divided, whole = load_dataset(source), load_dataset(source, seed=None)
    if len(whole.train):
        assert whole.test.fingerprint == divided.test.fingerprint
    else:
        assert sorted(whole.test.ids) == sorted([*divided.train.ids, *divided.test.ids])
        assert whole.class_names == divided.class_names


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
    assert place is None or workplace in place.parents


def test_nothing_left_out(source: str) -> None:
    assert load(source, Options()).left_out == ()


def test_a_path_may_go_up(case: Case, source: str) -> None:
    if case.kind != "layout":
        pytest.skip("a name is no path")
    relative = os.path.relpath(source)
    assert relative.startswith("..")
    one, other = load_dataset(source), load_dataset(relative)
    for before, after in ((one.train, other.train), (one.test, other.test)):
        np.testing.assert_array_equal(after.ids, before.ids)
        assert after.fingerprint == before.fingerprint
    found, expected = listing(relative), listing(source)
    assert (found and [entry.id for entry in found.entries]) == (expected and [entry.id for entry in expected.entries])


def test_recognised_by_its_own_layout_only(case: Case, source: str) -> None:
    if case.kind == "layout":
        found = [key for key in catalog.CATALOG["layout"] if catalog.load("layout", key).recognises(Path(source))]
        assert found == [case.key]


def test_the_same_images_have_the_same_fingerprint_in_every_form(workplace: Path) -> None:
    """From CIFAR's own files to all the others."""
    making.cifar10_binary(workplace / "data" / "cifar10")
    cifar = load_dataset("cifar10")
    folder, parquet, tar = (workplace / name for name in ("folder", "parquet", "webdataset"))
    for target in (folder, parquet, tar):
        before = "cifar10" if target is folder else str(folder)
        export(before, target.name, target, Options())
    lines = [
        f"{path.relative_to(folder)},{path.parent.name},{path.parent.parent.name}" for path in folder.glob("*/*/*")
    ]
    (folder / "images.csv").write_text("\n".join(["path,label,split", *lines]))
    for source in (folder, parquet, tar, folder / "images.csv"):
        splits = load_dataset(source)
        assert splits.train.fingerprint == cifar.train.fingerprint
        assert splits.test.fingerprint == cifar.test.fingerprint
        assert set(splits.class_names) == set(cifar.class_names)


def test_the_test_split_is_the_same_in_every_form(workplace: Path) -> None:
    """Of data that comes without one, and in whatever order: the names decide."""
    contents = making.encoded(40)
    making.tar(
        workplace / "one.tar",
        [pair for i in range(40) for pair in ((f"{i:02}.png", contents[i]), (f"{i:02}.cls", b"ab"[i % 2 : i % 2 + 1]))],
    )
    lines = []
    for index in reversed(range(40)):
        (workplace / f"{index:02}.png").write_bytes(contents[index])
        lines.append(f"{index:02}.png,{'ab'[index % 2]}")
    (workplace / "images.csv").write_text("\n".join(["file_name,label", *lines]))
    one, other = load_dataset(workplace / "one.tar", seed=4), load_dataset(workplace / "images.csv", seed=4)
    assert set(one.test.ids) == set(other.test.ids)
    assert one.test.fingerprint == other.test.fingerprint
    assert len(one.test) == 8
