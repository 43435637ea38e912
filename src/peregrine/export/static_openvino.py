"""An OpenVINO model for batches of one size."""

from pathlib import Path

from peregrine.artifact import Artifact
from peregrine.libraries import openvino


def fix(source: Artifact, folder: Path, batch: int) -> None:
    """Write `model.xml` and `model.bin` into `folder`, in whichever precision it is."""
    model = openvino.read(source.model_path)
    size = source.manifest.preprocess.size
    model.reshape({"images": [batch, size, size, 3]})
    openvino.ov.save_model(model, folder / source.format.file, compress_to_fp16=False)
