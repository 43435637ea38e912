"""An ONNX file for batches of one size: runtimes that prepare for one shape need no second guess."""

from pathlib import Path

import onnx

from peregrine.artifact import Artifact
from peregrine.libraries import onnx_file


def fix(source: Artifact, folder: Path, batch: int) -> None:
    """Write the file into `folder`, in whichever precision it is; every shape in it follows from the input's."""
    model = onnx_file.load(source.model_path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch  # in place of its name, N
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / source.format.file)
