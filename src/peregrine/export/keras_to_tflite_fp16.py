"""Keras to TFLite with weights in half precision.

Half the size. What computes is up to the runtime: LiteRT on a CPU turns the weights into float32 when it loads them, so
answers differ by the rounding of weights alone; on a GPU it computes in half precision.
"""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.engines.tensorflow.library import tf
from peregrine.export import tflite_converting


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.tflite` into `folder`, with free batch size; returns notes for the manifest."""
    converter = tflite_converting.converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return tflite_converting.write(tflite_converting.convert(converter), folder)
