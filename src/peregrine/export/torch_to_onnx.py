"""PyTorch to ONNX, by PyTorch's own exporter."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

from peregrine.artifact import Artifact
from peregrine.engines.pytorch.graph import open_classifier
from peregrine.formats import FORMATS

OPSET = 20  # the first with Gelu as one operation
_TALKATIVE = ("torch.onnx", "onnx_ir", "onnxscript")


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` into `folder`, with free batch size, norms folded into convolutions, and all weights inside.

    Returns:
        Notes for the manifest: the opset, and what produced the file.
    """
    classifier = open_classifier(source).folded()
    size = source.manifest.preprocess.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # a batch of one would be taken for a constant
    with _quietly():
        program = torch.onnx.export(
            classifier,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None  # the dynamo exporter always gives one
    model: Any = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / FORMATS["onnx"].file)
    return {"opset": OPSET, "producer": f"{model.producer_name} {model.producer_version}"}


def _forget_origin(model: Any) -> None:
    """Remove what the exporter notes of each part: it doubles the file and holds paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of itself: torchvision that is not there, passes, its own deprecations."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
