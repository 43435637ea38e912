"""Data that is larger than the memory for it, all the way from a folder of photos: nothing ever reads it whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import making
import small_runs
from peregrine import dataset
from peregrine.artifact import Artifact
from peregrine.data.sources import load_dataset
from peregrine.dataset import Selection
from peregrine.engines import statistics
from peregrine.files import read_json
from peregrine.stages.training import train
from workshop import engine_marks

MOST = 500  # images that are read at once: for judging


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each access to a selection has read."""
    found: list[int] = []
    once = Selection.__getitem__

    def counted(self: Selection, key: Any) -> Any:
        images = once(self, key)
        found.append(len(images) if images.ndim == 4 else 1)
        return images

    monkeypatch.setattr(Selection, "__getitem__", counted)
    return found


def trained(engine: str, folder: Path, run: Path) -> Artifact:
    recipe = small_runs.recipe(engine, {"epochs": 1, "batch_size": 64, "input.size": small_runs.SIZE})
    return train(load_dataset(folder, size=small_runs.SIZE), recipe, run=run)


@pytest.mark.parametrize("engine", [pytest.param(engine, marks=engine_marks(engine)) for engine in small_runs.RECIPES])
def test_a_folder_is_streamed(engine: str, reads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And bit for bit, the trained model is that of data in memory."""
    small_runs.loaded(engine)
    if engine == "tensorflow":  # which reads what a quarter of a second takes: of such small images, all
        monkeypatch.setattr("peregrine.engines.tensorflow.train.CALL_SECONDS", 0.0)
    folder = making.photos(tmp_path / "photos", each=400, size=small_runs.SIZE)
    monkeypatch.setattr(statistics, "SAMPLED_PIXELS", MOST * small_runs.SIZE**2)  # else all of such small images
    monkeypatch.setattr(dataset, "MEASURED_PIXELS", MOST * small_runs.SIZE**2)
    resident = trained(engine, folder, tmp_path / "resident")
    count = read_json(tmp_path / "resident/run.json")["data"]["images"]["train"]
    assert count > MOST
    assert reads.count(count) == 1
    reads.clear()
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0")
    streamed = trained(engine, folder, tmp_path / "streamed")
    assert max(reads) <= MOST
    assert sum(reads) > 2 * count
    one, other = (artifact.golden() for artifact in (resident, streamed))
    assert one.images.tobytes() == other.images.tobytes()
    assert one.answers.keys() == other.answers.keys()
    assert all(np.array_equal(one.answers[key], other.answers[key]) for key in one.answers)
    histories = [
        [{key: row[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")} for row in rows]
        for rows in (read_json(tmp_path / run / "results/training_history.json") for run in ("resident", "streamed"))
    ]
    assert histories[0] == histories[1]
