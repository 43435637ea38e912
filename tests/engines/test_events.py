"""Event files that TensorBoard reads, written without TensorFlow or PyTorch."""

import json
from pathlib import Path
from typing import Any

import pytest

from machine import python

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")

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
import json, sys, types
from pathlib import Path

# As TensorBoard runs where TensorFlow is not installed: with a stub of its own, and at once.
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

folder = Path(sys.argv[1])
events = [
    [
        [event.step, event.file_version, value.tag, list(value.tensor.float_val), str(value.tensor.string_val)]
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value or [Summary.Value()]
    ]
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix)
]
shown = [[event.step, event.value] for event in EventAccumulator(str(folder)).Reload().Scalars("loss")]
print(json.dumps({"events": events, "shown": shown}))
"""


def read(folder: Path) -> Any:
    """What TensorBoard sees: all events of each file, and the curve of the loss."""
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
    assert found["shown"] == [[1, 1.0], [2, 0.5], [3, 0.75]]  # the third step of the resumed run hides the first's


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
    assert read(tmp_path)["shown"] == [[1, 0.5]]
