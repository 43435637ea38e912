"""What only the TFLite edges without calibration do; `contract/test_edges.py` has the rest."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peregrine.export.keras_to_tflite", reason="needs the extra tensorflow", exc_type=ImportError)
pytest.importorskip("peregrine.libraries.litert", reason="needs the extra litert", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import CheckFailed
from peregrine.export import tflite_converting
from peregrine.export.base import convert_task
from peregrine.export.tflite_quantising import operations

pytestmark = pytest.mark.tensorflow

NETWORKS = {
    "cnn": {"name": "cnn", "widths": [8, 12], "dense": [16]},
    "resnet": {"name": "resnet", "depth": 8, "width": 8},
    "efficientnet": {"name": "efficientnet", "weights": "none", "resolution": 32},
    **{
        activation: {"name": "sprint", "widths": [8, 12], "whitening": 12, "activation": activation}
        for activation in ("gelu", "silu", "relu", "hard-swish")
    },
}
ACTIVATIONS = {
    "cnn": "CONV_2D",  # which holds its ReLU
    "resnet": "CONV_2D",
    "efficientnet": "LOGISTIC",
    "gelu": "GELU",
    "silu": "LOGISTIC",
    "relu": "CONV_2D",
    "hard-swish": "HARD_SWISH",
}


@pytest.fixture(scope="module")
def ancestors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """One of each network, made when first asked for."""
    folder = tmp_path_factory.mktemp("artifacts")

    class Made(dict[str, Artifact]):
        def __missing__(self, name: str) -> Artifact:
            self[name] = keras_ancestor.write(folder / name, 16, **NETWORKS[name])
            return self[name]

    return Made()


def export(source: Artifact, path: Path, format: str) -> Artifact:
    convert_task(f"keras_to_{format.replace('-', '_')}", str(source.path), str(path), format)
    return Artifact.open(path)


@pytest.mark.parametrize(
    ("network", "activation"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] if pair[0] == "efficientnet" else [])
        for pair in ACTIVATIONS.items()
    ],
)
def test_every_network_in_any_batch(
    network: str, activation: str, ancestors: dict[str, Artifact], tmp_path: Path
) -> None:
    """Activations are one operation where TFLite has one; nothing computes shapes."""
    ancestor = ancestors[network]
    made = export(ancestor, tmp_path / "tflite", "tflite")
    with default_candidate(ancestor).open() as one, default_candidate(made).open() as other:
        for count in (1, 7, 60):
            images = making.images(count, 16, seed=count)
            expected = one.predict(images)
            np.testing.assert_allclose(other.predict(images), expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.05
    found = {operation.kind for operation in operations(made.model_path.read_bytes())}
    assert activation in found
    assert found.isdisjoint({"SHAPE", "STRIDED_SLICE", "PACK"})


@pytest.mark.parametrize("format", ["tflite-fp16", "tflite-dynamic"])
def test_smaller_weights(format: str, ancestors: dict[str, Artifact], tmp_path: Path) -> None:
    ancestor = ancestors["resnet"]
    full = export(ancestor, tmp_path / "tflite", "tflite")
    made = export(ancestor, tmp_path / format, format)
    assert made.size_bytes < (0.65 if format == "tflite-fp16" else 0.5) * full.size_bytes
    images = making.images(60, 16)
    with default_candidate(ancestor).open() as one, default_candidate(made).open() as other:
        np.testing.assert_allclose(other.predict(images), one.predict(images), atol=1e-2)


def test_what_tflite_lacks_is_named() -> None:
    function = tf.function(
        lambda images: tf.math.erfinv(tf.cast(images, tf.float32)),
        input_signature=[tf.TensorSpec([None, 4], tf.uint8)],
    )
    made = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    message = r"^TFLite files hold TFLite's own operations alone; this model needs Erfinv; train it with another "
    with pytest.raises(CheckFailed, match=message):
        tflite_converting.convert(made)
