"""INT8 for TFLite by TensorFlow's quantiser: several ways are tried, and the judged images choose.

The model is calibrated once: a float file in which every value has its range. Each trial quantises that file anew.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from peregrine import host
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images
from peregrine.engines.tensorflow.library import tf
from peregrine.export import tflite_converting
from peregrine.export.samples import Samples
from peregrine.libraries import litert

# isort: split
from tensorflow.lite.python.convert import mlir_quantize  # after our `library`, which brings TensorFlow in quietly
from tensorflow.lite.tools import flatbuffer_utils

_BATCH = 64
_RANKED_IMAGES = 256  # enough to rank layers by
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SHARE = 0.99999  # of a tensor's values that lie below the upper end of its range, and above the lower
_BINS = 4096
_COUNTED = 1_000_000  # values of a tensor, at most, per batch


@dataclass(frozen=True)
class Operation:
    """One operation of a TFLite file: its kind, and the name of what it gives, by which the quantiser knows it."""

    kind: str
    name: str


@dataclass(frozen=True)
class Trial:
    """One way to quantise, and what came of it on the judged images.

    Attributes:
        ranges: `minmax`, or `percentile`, which cuts off the largest values.
        per_channel: whether each output channel of a weight has a scale of its own.
        kept_in_fp32: the layers that are not quantised.
        difference: mean |Δp| against the ancestor.
        agreement: share of images with the ancestor's top class.
        accuracy_drop_points: accuracy lost, in percentage points.
    """

    ranges: str
    per_channel: bool
    kept_in_fp32: tuple[str, ...]
    difference: float
    agreement: float
    accuracy_drop_points: float


def quantise(source: Artifact, samples: Samples) -> tuple[bytes, dict[str, Any]]:
    """The TFLite file that differs least from the ancestor, of all ranges, per channel and per tensor.

    Both ends, from pixels to the first layer with weights and from the last one to the probabilities, stay in float32.
    Where the best is beyond the limits of INT8, so do the layers that hurt most: 1, 2, 4, … of them.

    Returns:
        The file, and notes for the manifest: what was chosen, and the trials.
    """
    workbench = _Workbench(calibrated(source, samples.calibration), samples)
    for ranges in workbench.ranges:
        for per_channel in (True, False):
            workbench.attempt(ranges, per_channel)
    best = workbench.best
    ranking: list[str] = []
    while not samples.within_limits(best.agreement, best.accuracy_drop_points):
        ranking = ranking or workbench.worst_first(best.ranges, best.per_channel)
        kept = 2 * len(workbench.trials[-1].kept_in_fp32) or 1
        if kept > len(ranking) // 2:  # half of it in float32 would be no INT8 model
            break
        workbench.attempt(best.ranges, best.per_channel, ranking[:kept])
        best = min(workbench.trials[-1], best, key=lambda trial: trial.difference)
    return workbench.build(best), {
        "chosen": asdict(best),
        "trials": [asdict(trial) for trial in workbench.trials],
    }


def calibrated(source: Artifact, images: Images) -> bytes:
    """The model as a TFLite file in float32, with the smallest and the largest value that each tensor had."""
    converter = tflite_converting.converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([part] for part in _batches(images))
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


class _Workbench:
    """The calibrated file, and the trials made of it."""

    def __init__(self, content: bytes, samples: Samples) -> None:
        self.ranges = {"minmax": content, "percentile": cut(content, samples.calibration)}
        self.trials: list[Trial] = []
        self._samples = samples
        self._operations = operations(content)
        weighted = [number for number, operation in enumerate(self._operations) if operation.kind in _WEIGHTED]
        first, last = weighted[0], weighted[-1]
        self._ends = [operation.name for operation in self._operations[:first] + self._operations[last:]]
        # A layer is what has weights, and what follows it up to the next that has: its activation above all.
        self._layers = {
            self._operations[start].name: [operation.name for operation in self._operations[start:end]]
            for start, end in itertools.pairwise(weighted)
        }

    @property
    def best(self) -> Trial:
        return min(self.trials, key=lambda trial: trial.difference)

    def attempt(self, ranges: str, per_channel: bool, kept: Sequence[str] = ()) -> None:
        """Quantise all but the layers `kept`, and judge."""
        samples = self._samples
        answers = _answers(self._quantised(ranges, per_channel, kept), samples.judged)
        self.trials.append(
            Trial(
                ranges=ranges,
                per_channel=per_channel,
                kept_in_fp32=tuple(kept),
                difference=samples.difference(answers),
                agreement=samples.agreement(answers),
                accuracy_drop_points=samples.drop_points(answers),
            )
        )

    def build(self, trial: Trial) -> bytes:
        """The file of a trial."""
        return self._quantised(trial.ranges, trial.per_channel, trial.kept_in_fp32)

    def worst_first(self, ranges: str, per_channel: bool) -> list[str]:
        """Layers with weights by the harm that each does when it alone is quantised."""
        judged, expected = self._samples.judged[:_RANKED_IMAGES], self._samples.expected[:_RANKED_IMAGES]

        def harm(name: str) -> float:
            content = self._quantised(ranges, per_channel, [other for other in self._layers if other != name])
            return float(np.abs(_answers(content, judged) - expected).mean())

        return sorted(self._layers, key=harm, reverse=True)

    def _quantised(self, ranges: str, per_channel: bool, kept: Sequence[str]) -> bytes:
        content: bytes = mlir_quantize(
            self.ranges[ranges],
            disable_per_channel=not per_channel,
            denylisted_nodes=[*self._ends, *(name for layer in kept for name in self._layers[layer])],
        )
        return content


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
    for values in litert.all_values(content, _batches(images), host.threads(), list(ranges)):
        for number, (low, high) in ranges.items():
            some = values[number].ravel()[:: max(1, values[number].size // _COUNTED)]
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
    return np.concatenate([model(part) for part in _batches(images)])


def _batches(images: Images) -> list[Images]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
