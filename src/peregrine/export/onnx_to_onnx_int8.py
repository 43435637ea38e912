"""ONNX to INT8 for CPUs: unsigned activations, signed weights (U8S8), the pair that their instructions multiply."""

from pathlib import Path
from typing import Any

from onnxruntime.quantization import QuantType

from peregrine.artifact import Artifact
from peregrine.export import onnx_quantising
from peregrine.export.samples import Samples


def convert(source: Artifact, folder: Path, samples: Samples) -> dict[str, Any]:
    """Write `model.onnx` into `folder`; see `onnx_quantising.convert`."""
    scheme = onnx_quantising.Scheme(QuantType.QUInt8, reduce_range=onnx_quantising.needs_reduced_range())
    return onnx_quantising.convert(source, folder, samples, scheme)
