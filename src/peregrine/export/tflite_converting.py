"""TensorFlow's converter to TFLite, as all of our TFLite formats use it."""

import re
from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import CheckFailed
from peregrine.export.keras_serving import serving
from peregrine.files import write_bytes
from peregrine.formats import FORMATS


def converter(source: Artifact) -> Any:
    """A `TFLiteConverter` of the trained model with free batch size; its settings are the caller's.

    Only TFLite's builtin operations: those of TensorFlow itself ("select ops") are not in LiteRT, and would make every
    program that runs the model carry TensorFlow along.
    """
    module, function = serving(source.model_path)
    made = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return made


def convert(made: Any) -> bytes:
    """Run a converter.

    Raises:
        CheckFailed: TFLite lacks an operation of the model; the message names it.
    """
    try:
        content: bytes = made.convert()
    except Exception as error:  # its own class, ConverterError, is in no public module
        lacking = re.findall(r"(?:TF Select|Custom) ops: (.+)", str(error))
        if not lacking:
            raise
        raise CheckFailed(
            f"TFLite files hold TFLite's own operations alone; this model needs {', '.join(lacking)}; train it with "
            "another activation or layer, or export another format"
        ) from error
    return content


def write(content: bytes, folder: Path) -> dict[str, Any]:
    """Write `model.tflite`; gives the notes for the manifest."""
    write_bytes(folder / FORMATS["tflite"].file, content)
    return {"producer": f"tensorflow {tf.__version__}"}
