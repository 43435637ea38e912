"""ONNX to INT8 for TensorRT: signed and symmetric all through, and each value has a pair of its own."""

from pathlib import Path
from typing import Any

from onnxruntime.quantization import QuantType

from peregrine.artifact import Artifact
from peregrine.export import onnx_quantising
from peregrine.export.samples import Samples

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT adds biases in float
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def convert(source: Artifact, folder: Path, samples: Samples) -> dict[str, Any]:
    """Write `model.onnx` into `folder`; see `onnx_quantising.convert`."""
    return onnx_quantising.convert(source, folder, samples, onnx_quantising.Scheme(QuantType.QInt8, options=_OPTIONS))
