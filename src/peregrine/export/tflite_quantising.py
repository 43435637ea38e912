"""INT8 for TFLite by TensorFlow's quantiser: several ways are tried, and the judged images choose.

The model is calibrated once: a float file in which every value has its range. Each trial quantises that file anew.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peregrine import host
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images, at_once
from peregrine.engines.tensorflow.library import tf
from peregrine.export import int8_search, tflite_converting
from peregrine.export.samples import BATCH, Samples, batches
from peregrine.libraries import litert

# isort: split
from tensorflow.lite.python.convert import mlir_quantize  # after our `library`, which brings TensorFlow in quietly
from tensorflow.lite.tools import flatbuffer_utils

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SHARE = 0.99999  # of a tensor's values that lie below the upper end of its range, and above the lower
_BINS = 4096
_COUNTED = 1_000_000  # values of a tensor, at most, per batch of small images


@dataclass(frozen=True)
class Operation:
    """One operation of a TFLite file: its kind, and the name of what it gives, by which the quantiser knows it."""

    kind: str
    name: str


def quantise(source: Artifact, samples: Samples) -> tuple[bytes, dict[str, Any]]:
    """The TFLite file that `int8_search` finds, and its notes for the manifest.

    Both ends, from pixels to the first layer with weights and from the last one to the probabilities, stay in float32.
    """
    return int8_search.search(_workbench(calibrated(source, samples.calibration), samples.calibration), samples)


def calibrated(source: Artifact, images: Images) -> bytes:
    """The model as a TFLite file in float32, with the smallest and the largest value that each tensor had."""
    converter = tflite_converting.converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([part] for part in batches(images))
    converter._experimental_calibrate_only = True  # as TensorFlow's QuantizationDebugger does
    return tflite_converting.convert(converter)


def operations(content: bytes) -> list[Operation]:
    """What a TFLite file computes, in order."""
    model = flatbuffer_utils.convert_bytearray_to_object(content)
    (graph,) = model.subgraphs
    return [
        Operation(
            flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex),
            graph.tensors[operator.outputs[0]].name.decode(),
        )
        for operator in graph.operators
    ]


def _workbench(content: bytes, calibration: Images) -> int8_search.Workbench[bytes]:
    """What can be made of a calibrated file."""
    ranges = {"minmax": content, "percentile": cut(content, calibration)}
    steps = operations(content)
    weighted = [number for number, operation in enumerate(steps) if operation.kind in _WEIGHTED]
    ends = [operation.name for operation in steps[: weighted[0]] + steps[weighted[-1] :]]
    # A layer is what has weights, and what follows it up to the next that has: its activation above all.
    layers = {
        steps[start].name: [operation.name for operation in steps[start:end]]
        for start, end in itertools.pairwise(weighted)
    }

    def quantise(calibrator: str, per_channel: bool, kept: Sequence[str]) -> bytes:
        made: bytes = mlir_quantize(
            ranges[calibrator],
            disable_per_channel=not per_channel,
            denylisted_nodes=[*ends, *(name for layer in kept for name in layers[layer])],
        )
        return made

    return int8_search.Workbench(
        calibrators=list(ranges),
        layers=list(layers),
        quantise=quantise,
        quantise_alone=lambda calibrator, per_channel, name: quantise(
            calibrator, per_channel, [other for other in layers if other != name]
        ),
        answer=_answers,
    )


def cut(content: bytes, images: Images) -> bytes:
    """A calibrated file whose ranges leave out the outermost values, counted on the same images."""
    model = flatbuffer_utils.convert_bytearray_to_object(content)
    (graph,) = model.subgraphs
    ranges = {
        number: (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for number, tensor in enumerate(graph.tensors)
        if tensor.quantization is not None and tensor.quantization.min is not None and len(tensor.quantization.min)
    }
    counts = {number: np.zeros(_BINS, np.int64) for number in ranges}
    most = _COUNTED * at_once(BATCH, images.shape[1]) // BATCH
    for values in litert.all_values(content, batches(images), host.threads(), list(ranges)):
        for number, (low, high) in ranges.items():
            some = values[number].ravel()[:: max(1, values[number].size // most)]
            counts[number] += np.histogram(some, _BINS, (low, max(high, low + 1e-6)))[0]
    for number, (low, high) in ranges.items():
        share = np.cumsum(counts[number]) / counts[number].sum()
        first, last = np.searchsorted(share, [1 - _SHARE, _SHARE])
        quantization = graph.tensors[number].quantization
        quantization.min = [low + (high - low) * first / _BINS]
        quantization.max = [low + (high - low) * (last + 1) / _BINS]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _answers(content: bytes, images: Images) -> Probabilities:
    model = litert.LoadedModel(content, host.threads())
    return np.concatenate([model(part) for part in batches(images)])
