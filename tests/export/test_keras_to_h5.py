"""What only this edge does; `contract/test_edges.py` has the rest."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peregrine.export.keras_to_h5", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.engines.tensorflow.library import keras
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow

NETWORKS = {
    "efficientnet": {"weights": "none", "resolution": 32},  # a model within the model
    "sprint": {"widths": [8, 12], "whitening": 12},
}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_model_to_the_last_bit(network: str, tmp_path: Path) -> None:
    ancestor = keras_ancestor.write(tmp_path / "keras", name=network, **NETWORKS[network])
    convert_task("keras_to_h5", str(ancestor.path), str(tmp_path / "h5"), "h5")
    made = Artifact.open(tmp_path / "h5")
    assert list(made.manifest.files) == ["model.h5"]
    images = making.images(20, 12)
    with default_candidate(ancestor).open() as one, default_candidate(made).open() as other:
        np.testing.assert_array_equal(one.predict(images), other.predict(images))


def test_keras_alone_opens_it(tmp_path: Path) -> None:
    ancestor = keras_ancestor.write(tmp_path / "keras")
    convert_task("keras_to_h5", str(ancestor.path), str(tmp_path / "h5"), "h5")
    model = keras.models.load_model(tmp_path / "h5" / "model.h5")
    assert (model.input.name, model.input.dtype, model.compiled) == ("images", "uint8", False)
