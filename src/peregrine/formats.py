"""The formats an Artifact can have: name, file, precision, and the runtimes that open it."""

from dataclasses import dataclass

from peregrine.errors import UsageError, suggestion


@dataclass(frozen=True)
class Format:
    """One way to store a model.

    Attributes:
        name: what the user types, `onnx-int8`.
        file: fixed name of the model's file or folder inside the Artifact.
        precision: what the weights and activations are stored in: `fp32`, `fp16` or `int8`.
        runtimes: keys of the catalogue's runtimes that open it, the default first.
        summary: one line for `peregrine formats`.
        dynamic: whether activations become integers by the ranges of each batch: there is nothing to calibrate, and an
            image's answer depends a little on the others.
    """

    name: str
    file: str
    precision: str
    runtimes: tuple[str, ...]
    summary: str
    dynamic: bool = False


FORMATS = {
    format.name: format
    for format in (
        Format(
            "keras", "model.keras", "fp32", ("keras",), "Keras model: what the TensorFlow engine trains, or PyTorch's"
        ),
        Format("h5", "model.h5", "fp32", ("keras",), "Keras model in HDF5, for older programs"),
        Format("savedmodel", "saved_model", "fp32", ("savedmodel",), "SavedModel, for TensorFlow Serving"),
        Format("tflite", "model.tflite", "fp32", ("tflite",), "TFLite, for phones and small computers"),
        Format("tflite-fp16", "model.tflite", "fp16", ("tflite",), "TFLite with weights in half precision"),
        Format("tflite-dynamic", "model.tflite", "int8", ("tflite",), "TFLite with INT8 weights, not calibrated", True),
        Format("tflite-int8", "model.tflite", "int8", ("tflite",), "TFLite in INT8, calibrated"),
        Format("torch", "model.safetensors", "fp32", ("torch",), "PyTorch weights, what the PyTorch engine trains"),
        Format("onnx", "model.onnx", "fp32", ("onnxruntime", "openvino"), "ONNX, for ONNX Runtime and most others"),
        Format("onnx-fp16", "model.onnx", "fp16", ("onnxruntime",), "ONNX in half precision, for GPUs"),
        Format("onnx-int8", "model.onnx", "int8", ("onnxruntime", "openvino"), "ONNX in INT8, for CPUs (U8S8)"),
        Format("onnx-int8-symmetric", "model.onnx", "int8", ("onnxruntime",), "ONNX in INT8, for TensorRT (S8S8)"),
        Format("openvino", "model.xml", "fp32", ("openvino",), "OpenVINO, for Intel's and AMD's CPUs"),
        Format("openvino-int8", "model.xml", "int8", ("openvino",), "OpenVINO in INT8"),
        Format("tensorrt", "model.plan", "fp32", ("tensorrt",), "TensorRT plan, for NVIDIA's GPUs"),
        Format("tensorrt-fp16", "model.plan", "fp16", ("tensorrt",), "TensorRT plan in half precision"),
        Format("tensorrt-int8", "model.plan", "int8", ("tensorrt",), "TensorRT plan in INT8"),
    )
}


def find_format(name: str) -> Format:
    """Look a format up by name; an unknown one is a `UsageError` with a suggestion."""
    if name in FORMATS:
        return FORMATS[name]
    raise UsageError(f"a format is one of {', '.join(FORMATS)}; got {name!r}{suggestion(name, FORMATS)}")
