"""Keras to TFLite in float32."""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.export import tflite_converting


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.tflite` into `folder`, with free batch size; returns notes for the manifest."""
    return tflite_converting.write(tflite_converting.convert(tflite_converting.converter(source)), folder)
