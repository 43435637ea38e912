"""Keras to TensorFlow's SavedModel, for TensorFlow Serving and everything else that loads one."""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.engines.tensorflow.library import tf
from peregrine.export.keras_serving import SIGNATURE, serving
from peregrine.formats import FORMATS


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `saved_model/` into `folder`: the weights and one signature, no Keras objects.

    Returns:
        Notes for the manifest: the signature's name, and what produced the files.
    """
    module, function = serving(source.model_path)
    tf.saved_model.save(module, str(folder / FORMATS["savedmodel"].file), signatures={SIGNATURE: function})
    return {"signature": SIGNATURE, "producer": f"tensorflow {tf.__version__}"}
