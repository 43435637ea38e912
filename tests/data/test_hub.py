"""Data sets of the hub, fetched from a server of our own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

import making
from hub_server import COMMIT, Hub, environment, serving
from machine import python

# In a process of its own, because the library reads its settings when it is imported.
LOAD = """
import json, sys
from peregrine.data.sources import load_dataset
from peregrine.errors import PeregrineError
try:
    splits = load_dataset(sys.argv[1])
    print(json.dumps([splits.source, len(splits.train), len(splits.test), splits.class_names]))
except PeregrineError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = making.parquet_shards(tmp_path_factory.mktemp("served"))
    return {path.name: path.read_bytes() for path in folder.glob("data/*")}


@pytest.fixture(scope="module")
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serving({"README.md": b"", **{f"data/{name}": content for name, content in files.items()}}) as state:
        yield state


def load(address: str, endpoint: str, home: Path, **settings: str) -> str:
    """What is told of an address, or the error."""
    told = {**environment(endpoint, home), "PEREGRINE_CACHE": str(home / "cache"), **settings}
    command = [sys.executable, "-c", LOAD, address]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=told).stdout.strip()


def test_a_data_set_is_fetched_once_and_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    pinned = f"hf://owner/name@{COMMIT}"
    expected = json.dumps([pinned, 20, 10, ["cat", "dog"]])
    assert load("hf://owner/name", hub.url, tmp_path) == expected
    assert not any("README" in request for request in hub.asked)
    (snapshot,) = tmp_path.glob("hub/datasets--owner--name/snapshots/*")
    (snapshot / "assets").mkdir()
    (snapshot / "assets" / "logo.png").write_bytes(b"of another tool")
    asked = len(hub.asked)
    assert load(pinned, hub.url, tmp_path) == expected
    assert len(hub.asked) == asked, "a commit never changes, so nothing is asked"
    assert load("hf://owner/name", "http://127.0.0.1:9", tmp_path) == expected, "what is here needs no network"
    assert load("hf://datasets/owner/name@main", hub.url, tmp_path, HF_HUB_OFFLINE="1") == expected
    assert list(tmp_path.glob("hub/datasets--owner--name/snapshots/*/data/*.parquet")), "it is in the library's cache"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "hf://owner",
            "UsageError a data set on the hub is hf://owner/name, hf://owner/name@revision or hf://owner/nam",
        ),
        ("hf://owner/../name", "UsageError a data set on the hub is hf://owner/name"),
        (
            "hf://owner/gone",
            "UsageError data is an address on the hub; found no data set open to you at hf://owner/gone; ch",
        ),
        (
            "hf://owner/name@v9",
            "UsageError data is an address on the hub; found no revision v9 at hf://owner/name@v9; ",
        ),
        (
            "hf://owner/name/other",
            "DataError a data set on the hub has Parquet files; the folder other of hf://owner/name/other has none; "
            "many have some at hf://owner/name@refs/convert/parquet",
        ),
    ],
)
def test_wrong_addresses(hub: Hub, tmp_path: Path, address: str, message: str) -> None:
    assert load(address, hub.url, tmp_path).startswith(message)


def test_no_network(tmp_path: Path) -> None:
    told = load("hf://owner/name", "http://127.0.0.1:9", tmp_path)
    assert told.startswith("MachineError cannot download hf://owner/name: ")
    assert told.endswith("; check the network and run again")
    told = load("hf://owner/name", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert told.startswith("MachineError cannot download hf://owner/name: ")


def test_several_data_sets(files: dict[str, bytes], tmp_path: Path) -> None:
    served = {f"{folder}/{name}": content for folder in ("large", "small") for name, content in files.items()}
    with serving(served) as hub:
        assert load("hf://owner/name", hub.url, tmp_path) == (
            "DataError hf://owner/name has several data sets: large, small; name one, as hf://owner/name/small"
        )
        address = f"hf://owner/name@{COMMIT}/small"
        assert json.loads(load("hf://owner/name/small", hub.url, tmp_path))[0] == address
        assert not any("large" in request for request in hub.asked)


def test_an_address_of_one_split_alone(tmp_path: Path) -> None:
    """What lies beside it in the cache would count too, or not, by what was fetched before."""
    with serving({}) as hub:
        assert load("hf://owner/name/default/train", hub.url, tmp_path) == (
            "UsageError an address is that of a data set, not of one of its splits; got "
            "'hf://owner/name/default/train'; use hf://owner/name/default"
        )
        assert not hub.asked


def test_without_the_library() -> None:
    told = python(
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from peregrine.data.sources import load_dataset\n"
        "from peregrine.errors import MissingDependency\n"
        "try:\n    load_dataset('hf://owner/name')\nexcept MissingDependency as error:\n    print(error)"
    )
    assert told.stdout.strip() == (
        "address hf:// needs the library 'huggingface_hub', which is not installed; run: pip install 'peregrine[hub]'"
    )
