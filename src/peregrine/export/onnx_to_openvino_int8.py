"""ONNX to OpenVINO in INT8, by NNCF's quantisation after training."""

import logging
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov

from peregrine import host
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images
from peregrine.export.samples import Samples
from peregrine.formats import FORMATS

_BATCH = 64
PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


def convert(source: Artifact, folder: Path, samples: Samples) -> dict[str, Any]:
    """Write `model.xml`, and beside it `model.bin` with the weights.

    Symmetric and asymmetric activations (NNCF's presets) are both tried; what differs less from the ancestor is kept.

    Returns:
        Notes for the manifest: the settings, what each that was tried came to, and what produced the file.
    """
    logging.getLogger("nncf").setLevel(logging.WARNING)
    content = source.model_path.read_bytes()
    calibration = nncf.Dataset(_batches(samples.calibration), lambda images: {"images": images})
    steps = -(-len(samples.calibration) // _BATCH)
    trials = []
    found = {}
    for name, preset in PRESETS.items():
        model = nncf.quantize(
            ov.Core().read_model(content),
            calibration,
            preset=preset,
            target_device=nncf.TargetDevice.CPU,
            subset_size=steps,
        )
        answers = _answers(model, samples.judged)
        trials.append({
            "preset": name,
            "difference": samples.difference(answers),
            "accuracy_drop_points": samples.drop_points(answers),
        })  # fmt: skip
        found[name] = model
    best = min(trials, key=lambda trial: trial["difference"])
    ov.save_model(found[best["preset"]], folder / FORMATS["openvino-int8"].file, compress_to_fp16=False)
    return {
        "producer": f"nncf {nncf.__version__}, openvino {ov.get_version()}",
        "calibration_images": len(samples.calibration),
        "preset": best["preset"],
        "trials": trials,
    }


def _batches(images: Images) -> list[Images]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]


def _answers(model: Any, images: Images) -> Probabilities:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": host.threads()})
    request = compiled.create_infer_request()
    return np.concatenate([np.array(request.infer({"images": batch})[0]) for batch in _batches(images)])
