"""Files from the hub, fetched from a server of our own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

from hub_server import COMMIT, Hub, environment, serving

CONTENT = b"weights" * 1000

# In a process of its own, because the library reads its settings when it is imported.
FETCH = """
import sys
from peregrine.engines.hub import fetch
from peregrine.errors import PeregrineError
try:
    address, path = fetch(sys.argv[1])
    print(address, path)
except PeregrineError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serving({"model.safetensors": CONTENT, "old/weights.pth": CONTENT}) as state:
        yield state


def fetch(address: str, endpoint: str, home: Path, **settings: str) -> str:
    """What is given for an address, or the error."""
    command = [sys.executable, "-c", FETCH, address]
    told = {**environment(endpoint, home), **settings}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
    return ended.stdout.strip()


def test_a_file_is_fetched_once_and_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    address, path = fetch("hf://owner/name", hub.url, tmp_path).split(" ")
    assert address == f"hf://owner/name@{COMMIT}/model.safetensors"
    assert Path(path).read_bytes() == CONTENT
    assert tmp_path in Path(path).parents
    asked = len(hub.asked)
    assert fetch(address, hub.url, tmp_path) == f"{address} {path}"
    assert len(hub.asked) == asked, "a commit never changes, so nothing is asked"


def test_a_file_by_its_name(hub: Hub, tmp_path: Path) -> None:
    address, path = fetch("hf://owner/name/old/weights.pth", hub.url, tmp_path).split(" ")
    assert address == f"hf://owner/name@{COMMIT}/old/weights.pth"
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "hf://owner",
            "RecipeError an address on the hub is hf://owner/name, hf://owner/name/file or hf://owner/name@rev",
        ),
        (
            "hf://owner/name/../secret",
            "RecipeError an address on the hub is hf://owner/name, hf://owner/name/file or hf",
        ),
        (
            "hf://owner/name/other.bin",
            "RecipeError owner/name on the hub has no file other.bin; name one of its own: hf:",
        ),
        (
            "hf://owner/gone",
            "RecipeError model.weights is an address on the hub; found nothing that is open to you at hf",
        ),
        (
            "hf://owner/name@v9",
            "RecipeError model.weights is an address on the hub; found no revision v9 at hf://owner/na",
        ),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path, address: str, message: str) -> None:
    assert fetch(address, hub.url, tmp_path).startswith(message)


def test_no_hub(tmp_path: Path) -> None:
    """Without a network the library asks again for half a minute; told to be offline, it gives up at once."""
    told = fetch("hf://owner/name", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert told.startswith("MachineError cannot download hf://owner/name: Cannot reach http://127.0.0.1:9/owner/name/")
    assert told.endswith("; check the network and run again, or give model.weights a file")
    assert ".;" not in told
    assert "\n" not in told
