"""What only the Keras runtime does; `contract/test_runtimes.py` has the rest."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import DamagedFile, MissingDevice
from peregrine.metrics import softmax

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return keras_ancestor.write(tmp_path_factory.mktemp("artifacts") / "keras")


def test_probabilities_are_the_softmax_of_the_tempered_logits(artifact: Artifact) -> None:
    images = making.images(300, 12, seed=1)
    with default_candidate(artifact).open() as runtime:
        probabilities, logits = runtime.predict(images), runtime.logits(images)
        runtime.verify()
        assert runtime.provider == "cpu"
    assert probabilities.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(probabilities, softmax(logits / 1.7), atol=1e-6)
    assert logits.std(0).min() > 0


def test_every_batch_size_runs_the_one_trace(artifact: Artifact) -> None:
    from peregrine.runtimes.keras import KerasRuntime

    with KerasRuntime(default_candidate(artifact), artifact) as runtime:
        for count in (1, 2, 33):
            runtime.predict(making.images(count, 12))
        assert runtime._probabilities.experimental_get_tracing_count() == 1


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_a_device_that_is_not_here(artifact: Artifact) -> None:
    with pytest.raises(MissingDevice, match="keras@keras-cuda runs on cuda; TensorFlow finds no such device"):
        replace(default_candidate(artifact), provider="cuda").open()


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_code_inside_a_model_is_refused(name: str, tmp_path: Path) -> None:
    """The hashes may fit a file that somebody prepared; Keras' safe mode is the second lock."""
    from peregrine.engines.tensorflow.checkpoint import load_model, save_model
    from peregrine.engines.tensorflow.library import keras

    images = keras.Input((12, 12, 3), dtype="uint8")
    model = keras.Model(images, keras.layers.Lambda(lambda x: x, name="probabilities")(images))
    save_model(model, tmp_path / name)
    with pytest.raises(DamagedFile, match=rf"{name} is not a Keras model of ours .*ambda"):
        load_model(tmp_path / name)


def test_a_process_of_its_own_runs_with_the_candidates_threads_and_says_nothing(artifact: Artifact) -> None:
    script = (
        "import sys; from dataclasses import replace; from peregrine.artifact import Artifact\n"
        "from peregrine.candidate import default_candidate\n"
        "artifact = Artifact.open(sys.argv[1])\n"
        "with replace(default_candidate(artifact), threads=3).open() as runtime: runtime.verify()\n"
        "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(artifact.path)], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("3\n", "")
