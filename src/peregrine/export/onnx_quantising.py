"""INT8 for ONNX graphs by ONNX Runtime's quantiser: several ways are tried, and the judged images choose.

An ONNX file says in itself what is computed in INT8: its values pass through pairs of QuantizeLinear and
DequantizeLinear, which runtimes fuse with the operation between two pairs.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, calibrate
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from peregrine import host
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images
from peregrine.export import int8_search, onnx_rewrites
from peregrine.export.samples import Samples, batches
from peregrine.formats import FORMATS

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# What gains from INT8, and what stands between. An activation such as SiLU stays float between two convolutions: on
# ONNX Runtime its parts in INT8 are no faster (one core of Zen 5: 458 against 459 images/s of `sprint-max`).
_QUANTISED = (*_WEIGHTED, "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
CALIBRATORS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


@dataclass(frozen=True)
class Scheme:
    """How numbers become integers.

    Attributes:
        activations: `QuantType` of what flows.
        reduce_range: give weights 7 bits only.
        options: ONNX Runtime's extra options.
    """

    activations: Any
    reduce_range: bool = False
    options: dict[str, bool] = field(default_factory=dict)


def convert(source: Artifact, folder: Path, samples: Samples, scheme: Scheme) -> dict[str, Any]:
    """Write the `model.onnx` that `int8_search` finds.

    Returns:
        Notes for the manifest: opset, producer, what was chosen, and the trials.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        _prepare(source.model_path, prepared, scheme)
        model, notes = int8_search.search(_workbench(prepared, samples.calibration, scheme), samples)
    onnx_rewrites.take_pixels_as_they_are(model.graph)
    _finish(model)
    onnx.save_model(model, folder / FORMATS["onnx"].file)
    return {
        "opset": source.manifest.notes["opset"],
        "producer": f"onnxruntime {onnxruntime.__version__}",
        "reduce_range": scheme.reduce_range,
        **notes,
    }


def _workbench(prepared: Path, calibration: Images, scheme: Scheme) -> int8_search.Workbench[Any]:
    """What can be made of a prepared graph."""
    ranges = {name: _ranges(prepared, method, calibration) for name, method in CALIBRATORS.items()}
    pixels = onnx_rewrites.pixels(onnx.load(prepared).graph)
    for found in ranges.values():
        if pixels in found:
            found[pixels] = calibrate.TensorData(lowest=np.float32(0), highest=np.float32(255))  # so none is rounded

    def quantise(calibrator: str, per_channel: bool, kept: Sequence[str] = (), only: Sequence[str] = ()) -> Any:
        quantiser = QDQQuantizer(
            onnx.load(prepared),
            per_channel=per_channel,
            reduce_range=scheme.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=scheme.activations,
            tensors_range=ranges[calibrator],
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(kept),
            op_types_to_quantize=list(_QUANTISED),
            # What leaves a dense layer stays float: 256 steps are coarse for logits.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"], **scheme.options},
        )
        quantiser.quantize_model()
        return quantiser.model.model

    return int8_search.Workbench(
        calibrators=list(CALIBRATORS),
        layers=[node.name for node in onnx.load(prepared).graph.node if node.op_type in _WEIGHTED],
        quantise=quantise,
        quantise_alone=lambda calibrator, per_channel, name: quantise(calibrator, per_channel, only=[name]),
        answer=_answers,
    )


def needs_reduced_range() -> bool:
    """Whether this processor is an x86 without VNNI: its sums of products of 8-bit numbers saturate at 16 bits."""
    flags = host.cpu_flags()
    return "sse2" in flags and not flags & {"avx512_vnni", "avx_vnni"}


def _prepare(source: Path, target: Path, scheme: Scheme) -> None:
    """Norms folded, shapes inferred, every node named; where bytes flow, pixels are left as they are."""
    with _quietly():
        quant_pre_process(source, target, skip_symbolic_shape=True)
    model = onnx.load(target)
    onnx_rewrites.restore_hard_swishes(model.graph)
    if scheme.activations == QuantType.QUInt8:
        onnx_rewrites.fold_normalisation(model.graph)
        onnx_rewrites.remove_unused(model.graph)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save_model(model, target)


def _ranges(prepared: Path, method: Any, images: Images) -> Any:
    """The range of every value that is quantised; a few images at once, as all their values are held."""
    with _quietly():
        calibrator = calibrate.create_calibrator(
            prepared,
            list(_QUANTISED),
            augmented_model_path=str(prepared.with_name("augmented.onnx")),
            calibrate_method=method,
        )
        for part in batches(images):
            calibrator.collect_data(_Batch(part))
        return calibrator.compute_data()


class _Batch(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime is not typed
    def __init__(self, images: Images) -> None:
        self._left = [images]

    def get_next(self) -> dict[str, Images] | None:
        return {"images": self._left.pop()} if self._left else None


def _answers(model: Any, images: Images) -> Probabilities:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = host.threads(), 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in batches(images)])


def _finish(model: Any) -> None:
    """Only the operation sets that are used, no notes on values, the input's way first; then checked."""
    graph = model.graph
    used = {node.domain for node in graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    ordered = _ordered(graph)
    del model.opset_import[:], graph.value_info[:], model.metadata_props[:], graph.node[:]
    model.opset_import.extend(kept)
    graph.node.extend(ordered)
    onnx.checker.check_model(model, full_check=True)


def _ordered(graph: Any) -> list[Any]:
    """The nodes, each with what it needs right before it: the quantiser appends its own at the end."""
    producers = {name: node for node in graph.node for name in node.output}
    found: list[Any] = []
    placed: set[str] = set()
    pending = list(reversed(graph.node))
    while pending:
        node = pending[-1]
        missing = [producers[name] for name in node.input if name in producers and name not in placed]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        if placed.isdisjoint(node.output):
            placed.update(node.output)
            found.append(node)
    return found


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what ONNX Runtime's tools print."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
