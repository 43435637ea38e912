"""Somebody's SavedModel: its signature becomes ONNX, and what reaches out of it is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import tiny
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import DamagedFile, UsageError
from peregrine.foreign.base import as_probabilities
from peregrine.foreign.pixels import Pixels
from peregrine.foreign.savedmodel import open_model

pytestmark = pytest.mark.tensorflow
PIXELS = Pixels(scale=1 / 127.5, mean=(1.0, 1.0, 1.0))


class Network(tf.Module):  # type: ignore[misc]
    """Plain TensorFlow: a convolution, the mean of its positive part, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self.kernel = tf.Variable(random.normal(0, 0.3, (3, 3, 3, 4)), dtype=tf.float32)
        self.dense = tf.Variable(random.normal(0, 0.8, (4, 3)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="photo")])  # type: ignore[untyped-decorator]
    def __call__(self, photo: Any) -> Any:
        planes = tf.nn.relu(tf.nn.conv2d(photo, self.kernel, 1, "SAME"))
        return {"scores": tf.reduce_mean(planes, (1, 2)) @ self.dense}


class Reader(Network):
    """The same, and what it read in a file."""

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="photo")])  # type: ignore[untyped-decorator]
    def __call__(self, photo: Any) -> Any:
        secret = tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)
        return {"scores": tf.reduce_mean(photo, (1, 2)) @ self.dense[:3] + secret}


class Labelled(Network):
    """The same, with a file of labels beside it."""

    def __init__(self, labels: Path) -> None:
        super().__init__()
        self.labels = tf.saved_model.Asset(str(labels))


def save(network: Any, path: Path, **signatures: Any) -> Path:
    tf.saved_model.save(network, str(path), signatures=signatures or {"serving_default": network.__call__})
    return path


def test_answers_as_its_signature_does(tmp_path: Path) -> None:
    network = Network()
    model = open_model(save(network, tmp_path / "somebody"))
    model.settle(None, None, 3)
    assert (model.format, model.layout, model.size) == ("onnx", "NHWC", 8)
    images = tiny.images(7)
    values = PIXELS.apply(images)
    expected = network(tf.constant(values))["scores"].numpy()
    np.testing.assert_allclose(model.ask(values), expected, atol=1e-5)
    model.write(tmp_path, PIXELS, "logits")
    np.testing.assert_allclose(model.reopen(tmp_path)(images), as_probabilities(expected, "logits"), atol=1e-5)


def test_what_keras_exports(tmp_path: Path) -> None:
    from peregrine.engines.tensorflow.library import keras

    network = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")
    ])  # fmt: skip
    network.export(tmp_path / "somebody", verbose=False)
    model = open_model(tmp_path / "somebody")
    model.settle(None, None, None)
    values = PIXELS.apply(tiny.images(4))
    np.testing.assert_allclose(model.ask(values), network(values).numpy(), atol=1e-5)


def test_what_reads_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"without what reaches out of it; .* has the operation ReadFile; export"):
        open_model(save(Reader(), tmp_path / "somebody"))


def test_assets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(UsageError, match=r"also has assets/labels\.txt; save it without assets$"):
        open_model(save(Labelled(tmp_path / "labels.txt"), tmp_path / "somebody"))


def test_links_are_refused(tmp_path: Path) -> None:
    path = save(Network(), tmp_path / "somebody")
    variables = path / "variables" / "variables.index"
    variables.rename(tmp_path / "elsewhere")
    variables.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"variables\.index is a link or something else; copy it whole$"):
        open_model(path)


def test_another_signature(tmp_path: Path) -> None:
    network = Network()
    path = save(network, tmp_path / "somebody", embed=network.__call__)
    with pytest.raises(
        UsageError, match=r"answers by its signature 'serving_default'; .* has embed; save it with that"
    ):
        open_model(path)


@pytest.mark.parametrize("content", [b"", b"no model", bytes(100)])
def test_something_else(content: bytes, tmp_path: Path) -> None:
    path = save(Network(), tmp_path / "somebody")
    (path / "saved_model.pb").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"somebody is no whole SavedModel \(.*\); save the model again$"):
        open_model(path)
