"""Keras to TFLite in INT8, calibrated: integers inside, uint8 images in and float32 probabilities out as everywhere."""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.export import tflite_converting, tflite_quantising
from peregrine.export.samples import Samples


def convert(source: Artifact, folder: Path, samples: Samples) -> dict[str, Any]:
    """Write `model.tflite` into `folder`, with free batch size; returns notes, see `tflite_quantising.quantise`."""
    content, notes = tflite_quantising.quantise(source, samples)
    return {**tflite_converting.write(content, folder), **notes}
