"""ONNX to OpenVINO, in float32: which precision runs is decided when it is opened."""

from pathlib import Path
from typing import Any

import openvino as ov

from peregrine.artifact import Artifact
from peregrine.formats import FORMATS


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.xml`, and beside it `model.bin` with the weights.

    Returns:
        Notes for the manifest: what produced the file.
    """
    model = ov.Core().read_model(source.model_path.read_bytes())
    ov.save_model(model, folder / FORMATS["openvino"].file, compress_to_fp16=False)
    return {"producer": f"openvino {ov.get_version()}"}
