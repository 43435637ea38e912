"""Event files that TensorBoard reads, written without TensorFlow or PyTorch."""

import base64
import io
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from machine import python

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
from peregrine.engines.events import BUCKETS, COUNTED, EventWriter

WRITE = """
import sys
from pathlib import Path
from peregrine.engines.events import EventWriter

folder = Path(sys.argv[1])
with EventWriter(folder) as events:
    events.text("recipe", "epochs = 3")
    for epoch in (1, 2, 3):
        events.scalars({"loss": 1 / epoch, "val_accuracy": 0.25 * epoch}, epoch)
with EventWriter(folder, first_step=3) as events:
    events.scalars({"loss": 0.75}, 3)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "torch", "keras"}))
"""


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, str]:
    ended = python(WRITE, tmp_path)
    assert ended.returncode == 0, ended.stderr
    return tmp_path, ended.stdout


def test_nothing_heavy_is_imported(written: tuple[Path, str]) -> None:
    assert written[1] == "[]\n"


READ = """
import base64, json, sys, types
from pathlib import Path

# As TensorBoard runs where TensorFlow is not installed: with a stub of its own, and at once.
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.util import tensor_util

folder = Path(sys.argv[1])
events = [
    [
        [event.step, event.file_version, value.tag, list(value.tensor.float_val), str(value.tensor.string_val)]
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value or [Summary.Value()]
    ]
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix)
]
accumulator = EventAccumulator(str(folder)).Reload()
accumulator = EventAccumulator(str(folder)).Reload()
scalars = {
    tag: [[event.step, event.value] for event in accumulator.Scalars(tag)]
    for tag in accumulator.Tags()["scalars"]
}
tensors = {"text": {}, "histograms": {}, "images": {}}
for tag in accumulator.Tags()["tensors"]:
    tensors[accumulator.SummaryMetadata(tag).plugin_data.plugin_name][tag] = [
        [tensor.step, tensor_util.make_ndarray(tensor.tensor_proto).tolist()]
        for tensor in accumulator.Tensors(tag)
    ]
text = lambda content: base64.b64encode(content).decode()
print(json.dumps({"events": events, "scalars": scalars, "tensors": tensors}, default=text))
"""


def read(folder: Path) -> Any:
    """What TensorBoard sees: all events of each file, the scalars by tag, and tensors by plug-in and tag."""
    ended = python(READ, folder)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_tensorboard_reads_them(written: tuple[Path, str]) -> None:
    found = read(written[0])
    first, resumed = found["events"]
    assert first[0] == resumed[0] == [0, "brain.Event:2", "", [], "[]"]
    assert first[1] == [0, "", "recipe", [], "[b'epochs = 3']"]
    assert [(step, tag, values[0]) for step, _, tag, values, _ in first[2:]] == [
        (step, tag, pytest.approx(number))
        for step in (1, 2, 3)
        for tag, number in (("loss", 1 / step), ("val_accuracy", 0.25 * step))
    ]
    assert found["scalars"]["loss"] == [
        [1, 1.0],
        [2, 0.5],
        [3, 0.75],
    ]  # the third step of the resumed run hides the first's


WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from peregrine.engines.events import EventWriter

events = EventWriter(Path(sys.argv[1]))
events.scalars({"loss": 0.5}, 1)
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_loses_nothing_it_wrote(tmp_path: Path) -> None:
    assert python(WRITE_AND_DIE, tmp_path).returncode == -9
    assert read(tmp_path)["scalars"]["loss"] == [[1, 0.5]]


# ---- histograms and pictures ----------------------------------------------------------------------------------------


def test_a_histogram_counts_what_is_finite(tmp_path: Path) -> None:
    """Buckets (left edge, right edge, count) as TensorBoard's own writers make them."""
    spread = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    with EventWriter(tmp_path) as events:
        events.histograms({"weights/a": spread, "gradients/a": np.full(7, 0.25, np.float32)}, 1)
        events.histograms({"weights/a": np.array([0, 3, np.nan, np.inf, -np.inf], np.float32)}, 2)
        events.histograms({"weights/a": np.array([np.nan], np.float32)}, 3)
        events.histograms({"weights/a": np.zeros((0, 3), np.float32)}, 4)
        events.histograms({"weights/a": np.array([-3e38, 3e38], np.float32)}, 5)
    found = read(tmp_path)["tensors"]["histograms"]
    (step, equal), *rest = found["gradients/a"]
    assert (step, rest) == (1, [])
    assert equal == [[0.25, 0.25, 0]] * (BUCKETS - 1) + [[0.25, 0.25, 7]]
    steps, (first, finite, *nothing, widest) = zip(*found["weights/a"], strict=True)
    assert steps == (1, 2, 3, 4, 5)
    counts, edges = np.histogram(spread.astype(np.float64), BUCKETS)
    np.testing.assert_array_equal(first, np.stack([edges[:-1], edges[1:], counts], 1))
    assert finite[0] == pytest.approx([0, 0.1, 1])
    assert finite[-1] == pytest.approx([2.9, 3, 1])
    assert sum(count for _, _, count in finite) == 2
    assert nothing == [[[0, 0, 0]] * BUCKETS] * 2
    assert [widest[0][2], widest[-1][2]] == [1, 1]


def test_of_a_large_array_a_part_is_counted(tmp_path: Path) -> None:
    """Without a trace of its axes: every third value is another."""
    large = np.zeros((COUNTED, 3), np.float32)
    large[:, 0] = 1
    with EventWriter(tmp_path) as events:
        events.histograms({"large": large, "mirrored": np.asfortranarray(large[:, ::-1])}, 1)
    for ((_, buckets),) in read(tmp_path)["tensors"]["histograms"].values():
        assert buckets[0][2] + buckets[-1][2] == COUNTED
        assert buckets[-1][2] / COUNTED == pytest.approx(1 / 3, abs=0.01)


def test_a_picture_comes_back_to_the_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    with EventWriter(tmp_path) as events:
        events.image("noise", picture, 7)
    ((step, content),) = read(tmp_path)["tensors"]["images"]["noise"]
    width, height, png = map(base64.b64decode, content)
    assert (step, width, height) == (7, b"9", b"5")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), picture)


# ---- the server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Start TensorBoard over a folder, on a free port of the loopback; gives its address."""
    processes = []

    def start(folder: Path) -> str:
        log = tmp_path / "server.log"
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", "0"]
        with log.open("w") as output:
            processes.append(subprocess.Popen(command, stdout=output, stderr=output))
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and processes[-1].poll() is None:
            if found := re.search(r" at (http://127\.0\.0\.1:\d+/)", log.read_text()):
                return found[1]
            time.sleep(0.1)
        pytest.fail(f"TensorBoard did not start: {log.read_text()}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


def test_the_server_shows_them(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    folder = tmp_path / "events"
    with EventWriter(folder) as events:
        events.scalars({"loss": 0.5}, 1)
        events.histograms({"weights/a": np.arange(9, dtype=np.float32), "weights/b": np.full(3, np.nan)}, 1)
        events.image("noise", np.zeros((4, 4, 3), np.uint8), 1)
    address = serve(folder)

    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(f"{address}data/plugin/{path}", timeout=5) as answer:
            content: bytes = answer.read()
            return content

    def tags(plugin: str) -> set[str]:
        runs = json.loads(fetch(f"{plugin}/tags"))
        return set(runs.get(".", {}))

    deadline = time.monotonic() + 20
    while not tags("scalars") and time.monotonic() < deadline:  # it answers before it has read anything
        time.sleep(0.1)
    assert tags("scalars") == {"loss"}
    assert tags("images") == {"noise"}
    assert tags("histograms") == {"weights/a", "weights/b"}
    ((_, step, buckets),) = json.loads(fetch("histograms/histograms?run=.&tag=weights/a"))
    assert step == 1
    assert sum(count for _, _, count in buckets) == 9
    (picture,) = json.loads(fetch("images/images?run=.&tag=noise&sample=0"))
    assert picture["step"] == 1
    assert Image.open(io.BytesIO(fetch(f"images/individualImage?{picture['query']}"))).size == (4, 4)
