"""Keras to TFLite with INT8 weights, and activations that become integers by the ranges of each batch.

A quarter of the size without any calibration.
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
    return tflite_converting.write(tflite_converting.convert(converter), folder)
