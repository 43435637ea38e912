"""ONNX to OpenVINO in INT8, by NNCF's quantisation after training."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import host
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images
from peregrine.export import onnx_rewrites, openvino_rounding
from peregrine.export.samples import Samples, batches
from peregrine.formats import FORMATS
from peregrine.libraries import onnx_file, openvino

# isort: split
import nncf  # after our `openvino`, which keeps telemetry out

# layers that accuracy control puts back, one after another, each by a ranking of all that are left: of a network of 80
# layers, each takes half a minute on two cores
MOST_PUT_BACK = 10
PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


def convert(source: Artifact, folder: Path, samples: Samples) -> dict[str, Any]:
    """Write `model.xml`, and beside it `model.bin` with the weights.

    Symmetric and asymmetric activations (NNCF's presets) are both tried; what differs less from the ancestor is kept.
    Where that is beyond the limits of INT8, NNCF puts back into float32 what hurts accuracy most, up to ten layers.

    Returns:
        Notes for the manifest: the preset, what each that was tried came to, and what produced the file.
    """
    logging.getLogger("nncf").setLevel(logging.WARNING)
    reach = openvino_rounding.reaches(_float(source), batches(samples.calibration))
    trials, models = [], []
    for name in PRESETS:
        models.append(_rounded(_quantised(source, samples, name), reach))
        trials.append(_trial(name, models[-1], samples))
    best = min(range(len(trials)), key=lambda index: trials[index]["difference"])
    if not samples.within_limits(trials[best]["agreement"], trials[best]["accuracy_drop_points"]):
        models.append(_rounded(_with_accuracy_control(source, samples, trials[best]), reach))
        trials.append({**_trial(trials[best]["preset"], models[-1], samples), "accuracy_control": True})
        best = min(best, len(trials) - 1, key=lambda index: trials[index]["difference"])
    openvino.ov.save_model(models[best], folder / FORMATS["openvino-int8"].file, compress_to_fp16=False)
    return {
        "producer": f"nncf {nncf.__version__}, openvino {openvino.ov.get_version()}",
        "chosen": trials[best],
        "trials": trials,
    }


def _float(source: Artifact) -> Any:
    """The source with less to round: the normalisation, and what skips one convolution, are parts of convolutions."""
    model = onnx_file.load(source.model_path)
    onnx_rewrites.fold_normalisation(model.graph)
    onnx_rewrites.fold_skips(model.graph)
    return openvino.parse_onnx(model.SerializeToString())


def _rounded(model: Any, reach: dict[str, float]) -> Any:
    openvino_rounding.round_maxima(model, reach)
    openvino_rounding.keep_pixels(model)
    return model


def _quantised(source: Artifact, samples: Samples, preset: str) -> Any:
    parts = batches(samples.calibration)
    return nncf.quantize(
        _float(source),
        nncf.Dataset(parts, _as_input),
        preset=PRESETS[preset],
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(parts),
    )


def _with_accuracy_control(source: Artifact, samples: Samples, missed: dict[str, Any]) -> Any:
    """Quantised again, with those layers in float32 without which the limit that was missed is kept."""
    if missed["accuracy_drop_points"] > samples.most_drop_points:
        truth, most = samples.labels, samples.most_drop_points / 100
    else:
        truth, most = samples.expected.argmax(1), 1 - samples.least_agreement
    parts = batches(samples.calibration)
    images = batches(samples.judged)
    ends = np.cumsum([len(part) for part in images])
    judged = list(zip(images, np.split(truth, ends[:-1]), strict=True))

    def share(model: Any, pairs: Any) -> tuple[float, None]:
        right = [model(_as_input(part))[0].argmax(1) == wanted for part, wanted in pairs]
        return float(np.concatenate(right).mean()), None

    return nncf.quantize_with_accuracy_control(
        _float(source),
        calibration_dataset=nncf.Dataset(parts, _as_input),
        validation_dataset=nncf.Dataset(judged, lambda pair: pair),
        validation_fn=share,
        max_drop=most,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(max_num_iterations=MOST_PUT_BACK),
        preset=PRESETS[missed["preset"]],
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(parts),
    )


def _trial(preset: str, model: Any, samples: Samples) -> dict[str, Any]:
    compiled = openvino.compile_for_cpu(model, "int8", host.threads())
    request = compiled.create_infer_request()
    answers: Probabilities = np.concatenate([
        np.array(request.infer(_as_input(batch))[0]) for batch in batches(samples.judged)
    ])  # fmt: skip
    return {
        "preset": preset,
        "kept_in_fp32": _kept_in_fp32(model),
        "difference": samples.difference(answers),
        "agreement": samples.agreement(answers),
        "accuracy_drop_points": samples.drop_points(answers),
    }


def _kept_in_fp32(model: Any) -> list[str]:
    """Convolutions and products of matrices whose weights are plain constants."""
    weighted = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "MatMul")]
    return [
        node.get_friendly_name() for node in weighted if node.input_value(1).get_node().get_type_name() == "Constant"
    ]


def _as_input(images: Images) -> dict[str, Images]:
    return {"images": images}
