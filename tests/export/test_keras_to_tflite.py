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
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow

FORMATS = {"tflite": 1e-4, "tflite-fp16": 1e-2, "tflite-dynamic": 0.1}  # largest |Δp|
NETWORKS = {
    "cnn": {"name": "cnn", "widths": [8, 12], "dense": [16]},
    "resnet": {"name": "resnet", "depth": 8, "width": 8},
    "efficientnet": {"name": "efficientnet", "weights": "none", "resolution": 32},
    **{
        activation: {"name": "sprint", "widths": [8, 12], "whitening": 12, "activation": activation}
        for activation in ("gelu", "silu", "relu", "hard-swish")
    },
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


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_in_any_batch(network: str, ancestors: dict[str, Artifact], tmp_path: Path) -> None:
    ancestor = ancestors[network]
    made = export(ancestor, tmp_path / "tflite", "tflite")
    with default_candidate(ancestor).open() as one, default_candidate(made).open() as other:
        for count in (1, 7, 60):
            images = making.images(count, 16, seed=count)
            expected = one.predict(images)
            np.testing.assert_allclose(other.predict(images), expected, atol=FORMATS["tflite"])
        assert np.ptp(expected, axis=0).max() > 0.05
