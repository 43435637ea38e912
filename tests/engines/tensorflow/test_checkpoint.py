"""Checkpoints: what they hold, what plain Keras makes of them, and what they tell about themselves."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine import __version__
from peregrine.dataset import channel_statistics
from peregrine.engines.history import History
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.checkpoint import (
    Position,
    checkpoint_names,
    load_for_training,
    load_model,
    load_state,
    save_model,
    save_state,
)
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.record import describe, read_record
from peregrine.errors import DamagedFile

pytestmark = pytest.mark.tensorflow
RECIPE = small_runs.recipe("tensorflow", {"input.size": small_runs.SIZE})
SUFFIXES = (".keras", ".h5")
STEPS = 12  # 2 epochs of 6 steps


@pytest.fixture(scope="module")
def trained() -> Any:
    """A compiled network after some steps."""
    data = small_runs.patterns(small_runs.TRAIN, 0)
    normalisation = network.Normalisation.by(*channel_statistics(data.images))
    model = network.plain(RECIPE, len(small_runs.CLASSES), normalisation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(data.images.astype(np.float32), data.labels, batch_size=small_runs.BATCH, epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as `model.keras` and `model.h5`, and images to train on."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for suffix in SUFFIXES:
        save_model(trained, folder / f"model{suffix}", describe(RECIPE, small_runs.CLASSES))
    data = small_runs.patterns(small_runs.TRAIN, 0)
    np.savez(folder / "data.npz", images=data.images.astype(np.float32), labels=data.labels)
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_and_the_optimizers_state_come_back(trained: Any, folder: Path, suffix: str) -> None:
    model, optimizer = load_for_training(folder / f"model{suffix}")
    for read, written in zip(model.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(read.numpy(), written.numpy())
    assert optimizer is not None
    assert list(optimizer) == [variable.path for variable in trained.optimizer.variables]
    for read, written in zip(optimizer.values(), trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(read, written.numpy())
    assert next(iter(optimizer.values())) == STEPS


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_beside_the_file(folder: Path, suffix: str) -> None:
    assert not list(folder.glob(".tmp-*"))
    assert zipfile.is_zipfile(folder / f"model{suffix}") == (suffix == ".keras")


PLAIN = """
import sys
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
with np.load("data.npz") as data:
    before = model.evaluate(data["images"], data["labels"], verbose=0)[0]
    steps = int(model.optimizer.iterations)
    history = model.fit(data["images"], data["labels"], batch_size=16, epochs=3, verbose=0).history
assert not any(name.partition(".")[0] == "peregrine" for name in sys.modules)
rate = round(float(model.optimizer.learning_rate), 6)
print(type(model.optimizer).__name__, rate, steps, before, history["loss"][-1])
"""


@pytest.mark.parametrize(("suffix", "steps"), [(".keras", STEPS), (".h5", 0)])
def test_plain_keras_opens_it_and_fit_goes_on(trained: Any, folder: Path, suffix: str, steps: int) -> None:
    """In a process without Peregrine. From an `.h5`, Keras 3.15 takes no optimiser's state: Adam starts fresh there."""
    command = [sys.executable, "-c", PLAIN, f"model{suffix}"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    name, rate, found, before, after = ended.stdout.split()
    assert (name, float(rate), int(found)) == ("Adam", 0.01, steps)
    data = small_runs.patterns(small_runs.TRAIN, 0)
    assert float(before) == pytest.approx(
        trained.evaluate(data.images.astype(np.float32), data.labels, verbose=0)[0], rel=1e-3
    )
    assert float(after) < 0.1, "it forgot what it knew"


BY_HAND = """
import json, sys
import h5py, keras
model = keras.models.load_model(sys.argv[1])
with h5py.File(sys.argv[1]) as file:
    names = json.loads(file.attrs["peregrine"])["optimizer"]
    state = [file["optimizer_state"][name][()] for name in names]
model.optimizer.build(model.trainable_variables)
model.optimizer.set_weights(state)
print(int(model.optimizer.iterations), len(state) == len(model.optimizer.variables))
"""


def test_the_state_in_an_h5_can_be_had_by_hand(folder: Path) -> None:
    """As docs/recipes.md shows."""
    command = [sys.executable, "-c", BY_HAND, "model.h5"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == [str(STEPS), "True"], ended.stderr


def test_keras_own_h5_still_needs_the_detour(trained: Any, tmp_path: Path) -> None:
    """When this fails, Keras has learned to go on from its own `.h5`, and `record.add_record` need not move a group."""
    save_model(trained, tmp_path / "keras.h5")
    model = keras.models.load_model(tmp_path / "keras.h5")
    data = small_runs.patterns(8, 0)
    with pytest.raises(ValueError, match="Unknown variable"):
        model.fit(data.images.astype(np.float32), data.labels, verbose=0)


# ---- what a file tells about itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_knows_its_recipe_and_classes(folder: Path, suffix: str) -> None:
    record = read_record(folder / f"model{suffix}")
    assert record is not None
    assert record["recipe"] == RECIPE.to_dict()
    assert record["class_names"] == list(small_runs.CLASSES)
    assert record["written_by"] == f"peregrine {__version__}"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_may_be_long(trained: Any, tmp_path: Path, suffix: str) -> None:
    """An HDF5 attribute is small, unless its text lies elsewhere in the file."""
    names = [f"class {number} with ä näme" for number in range(10_000)]
    save_model(trained, tmp_path / f"model{suffix}", describe(RECIPE, names))
    record = read_record(tmp_path / f"model{suffix}")
    assert record is not None
    assert record["class_names"] == names
    load_model(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_without_record_or_optimizer(tmp_path: Path, suffix: str) -> None:
    model = network.plain(RECIPE, 4, network.Normalisation([1.0] * 3, [0.0] * 3))
    save_model(model, tmp_path / f"bare{suffix}")
    assert read_record(tmp_path / f"bare{suffix}") is None
    assert load_for_training(tmp_path / f"bare{suffix}")[1] is None
    save_model(model, tmp_path / f"ours{suffix}", describe(RECIPE, small_runs.CLASSES))
    assert load_for_training(tmp_path / f"ours{suffix}")[1] is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_torn_file_is_damaged(folder: Path, tmp_path: Path, suffix: str) -> None:
    torn = tmp_path / f"model{suffix}"
    torn.write_bytes((folder / torn.name).read_bytes()[:-1000])
    with pytest.raises(DamagedFile, match=rf"model\{suffix} is not a whole \{suffix} file .*; restore it"):
        read_record(torn)


def test_a_record_of_another_schema(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.h5"
    other.write_bytes((folder / other.name).read_bytes())
    with h5py.File(other, "r+") as file:
        file.attrs["peregrine"] = '{"schema": 2}'
    with pytest.raises(DamagedFile, match=r"model\.h5 is not of schema 1; open it with the version that wrote it"):
        read_record(other)


def test_a_record_that_names_more_than_there_is(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.h5"
    other.write_bytes((folder / other.name).read_bytes())
    with h5py.File(other, "r+") as file:
        del file["optimizer_state"]
    with pytest.raises(DamagedFile, match="lacks the optimizer's state that its record names"):
        load_for_training(other)


# ---- names and resume states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "suffix"), [("auto", "keras"), ("keras", "keras"), ("h5", "h5")])
def test_names(format: str, suffix: str) -> None:
    recipe = RECIPE.changed({"callbacks.checkpoint_format": format})
    assert checkpoint_names(recipe) == (f"best_model.{suffix}", f"latest_model.{suffix}")


@pytest.mark.parametrize("format", ["keras", "h5"])
def test_a_resume_state_brings_the_best_checkpoint_back(tmp_path: Path, format: str) -> None:
    recipe = RECIPE.changed({"callbacks.checkpoint_format": format})
    best = tmp_path / checkpoint_names(recipe)[0]
    best.write_bytes(b"the best of step 3")
    normalisation = network.Normalisation([0.1, 0.2, 0.3], [-1.0, 0.0, 1.0])
    position = Position("fp32", "log.csv", History.of(recipe), step=3, normalisation=normalisation)
    save_state(tmp_path, position, [np.arange(4)], best.name)
    best.unlink()
    best.write_bytes(b"the best of step 5, killed before its state")
    loaded = load_state(tmp_path, recipe)
    assert loaded is not None
    assert loaded[0] == position
    np.testing.assert_array_equal(loaded[1][0], np.arange(4))
    assert best.read_bytes() == b"the best of step 3"
