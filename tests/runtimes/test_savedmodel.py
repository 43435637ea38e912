"""What only the SavedModel runtime does; `contract/test_runtimes.py` has the rest."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("peregrine.runtimes.savedmodel", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    ancestor = keras_ancestor.write(tmp_path_factory.mktemp("artifacts") / "keras")
    path = ancestor.path.with_name("savedmodel")
    convert_task("keras_to_savedmodel", str(ancestor.path), str(path), "savedmodel")
    return Artifact.open(path)


def test_its_golden_images(artifact: Artifact) -> None:
    with default_candidate(artifact).open() as runtime:
        runtime.verify()
        assert runtime.provider == "cpu"
        assert runtime.predict(making.images(3, 12)).shape == (3, 3)


def test_one_without_the_signature(artifact: Artifact, tmp_path: Path) -> None:
    like = {**artifact.inherited(), "parent": None, "ancestor": None}
    path = tmp_path / "savedmodel"
    with Artifact.write(path, format="savedmodel", like=like, golden=artifact.golden()) as folder:
        tf.saved_model.save(tf.Module(), str(folder / "saved_model"))
    message = (
        r"^a SavedModel answers by its signature 'serving_default'; .*saved_model has none; export the model again$"
    )
    with pytest.raises(CheckFailed, match=message):
        default_candidate(Artifact.open(path)).open()


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_a_device_that_is_not_here(artifact: Artifact) -> None:
    with pytest.raises(MissingDevice, match="savedmodel@savedmodel-cuda runs on cuda; TensorFlow finds no such device"):
        replace(default_candidate(artifact), provider="cuda").open()
