"""OpenVINO, imported without its telemetry, and models read into it the way they were meant.

The conversions and the Runtime take it from here: `from peregrine.libraries.openvino import ov, opset14`.
"""

import sys
from pathlib import Path
from typing import Any

# OpenVINO and NNCF tell Google Analytics of every import and quantisation, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is Python's word for "missing"

import openvino as ov  # noqa: E402
from openvino import opset14  # noqa: E402
from openvino._offline_transformations import apply_moc_transformations  # noqa: E402

from peregrine.libraries import onnx_file  # noqa: E402

__all__ = ["compile_for_cpu", "is_max_pooling", "keep_pooling_first", "opset14", "ov", "parse_onnx", "read", "runs_in"]

# What OpenVINO does not move before the pooling, or what may be moved: of Relu the maximum is the Relu of the maximum.
_MAY_FOLLOW_POOLING = {"Relu", "Convolution", "Add", "FakeQuantize", "MaxPool"}
# What is not quantised runs in this; left alone, a CPU takes what it likes.
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def read(path: Path) -> Any:
    """A verified `model.onnx`, or `model.xml` with its `model.bin`, as OpenVINO's model.

    The files are read here, so that what was verified is what is parsed. Of an ONNX file, operations in several parts
    become one, as `openvino.convert_model` does it for files: NNCF would quantise each part of a SiLU or GELU and give
    away half of the speed.

    Raises:
        CheckFailed: an ONNX file keeps weights in another file.
    """
    if path.suffix != ".xml":
        return parse_onnx(onnx_file.read(path))
    model = ov.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    keep_pooling_first(model)
    return model


def parse_onnx(content: bytes) -> Any:
    """The content of an ONNX file as OpenVINO's model, as `read` gives it."""
    model = ov.Core().read_model(content)
    apply_moc_transformations(model, cf=False)  # has no public name but the converter's, which wants a file
    keep_pooling_first(model)
    return model


def compile_for_cpu(model: Any, precision: str, threads: int, many: bool = False) -> Any:
    """Compile for the CPU.

    Args:
        model: from `read`.
        precision: what a Candidate says: `fp32`, `bf16` or `int8`.
        threads: compute threads.
        many: several requests at once, with some of the threads each; otherwise one gets them all.
    """
    return ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "ENABLE_CPU_PINNING": False,  # threads that may not move wait for each other on a shared machine
            "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
        },
    )


def runs_in(compiled: Any, precision: str) -> bool:
    """Whether the hint was heeded."""
    found: str = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return found == _HINTS[precision]


def keep_pooling_first(model: Any) -> None:
    """Part a maximum from an activation behind it by a pooling of 1×1, which changes nothing.

    OpenVINO 2026.4 fuses Conv → MaxPool → activation as Conv → activation → MaxPool. That is the same for activations
    that only rise; for SiLU, GELU and hard-swish it is not: a `sprint` lost 3% of its answers. Seen and not fixed in
    `FuseConvolutionAndSimpleOperationThroughMaxPool` of its CPU plugin. Where the maximum is of rounded values, it does
    not, and a pooling of 1×1 that is there goes.
    """
    for pooling in model.get_ordered_ops():
        if not is_max_pooling(pooling):
            continue
        followers = list(pooling.output(0).get_target_inputs())
        if pooling.input_value(0).get_node().get_type_name() == "FakeQuantize":
            for follower in followers:
                _skip_idle_pooling(follower.get_node())
            continue
        if {follower.get_node().get_type_name() for follower in followers} <= _MAY_FOLLOW_POOLING:
            continue
        one, none = [1, 1], [0, 0]
        between = opset14.max_pool(pooling.output(0), one, one, none, none, one, "floor", "explicit")
        for follower in followers:
            follower.replace_source_output(between.output(0))
    model.validate_nodes_and_infer_types()


def is_max_pooling(node: Any) -> bool:
    """Whether a node takes the maximum of more than one pixel."""
    return node.get_type_name() == "MaxPool" and set(node.get_attributes()["kernel"]) != {1}


def _skip_idle_pooling(node: Any) -> None:
    """Let what reads a pooling of 1×1 read what that reads."""
    if node.get_type_name() == "MaxPool" and set(node.get_attributes()["kernel"]) == {1}:
        for follower in list(node.output(0).get_target_inputs()):
            follower.replace_source_output(node.input_value(0))
