"""ONNX to OpenVINO, in float32: which precision runs is decided when it is opened."""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.formats import FORMATS
from peregrine.libraries import openvino


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.xml`, and beside it `model.bin` with the weights.

    Returns:
        Notes for the manifest: what produced the file.
    """
    model = openvino.read(source.model_path)
    openvino.ov.save_model(model, folder / FORMATS["openvino"].file, compress_to_fp16=False)
    return {"producer": f"openvino {openvino.ov.get_version()}"}
