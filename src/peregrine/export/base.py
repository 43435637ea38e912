"""What every conversion is: a function from an Artifact to the files of another format.

    def convert(source: Artifact, folder: Path) -> dict[str, Any]:
        \"\"\"Write the model into `folder` under its format's fixed name; return notes for the manifest.\"\"\"

An edge's file is named by the edge, `keras_to_onnx.py`, and so is its key in the catalogue; `routes` finds the
shortest way from what there is to what is wanted. Each edge runs in a worker process of its own.
"""

from pathlib import Path
from typing import Any, Protocol

from peregrine import catalog
from peregrine.artifact import Artifact


class Edge(Protocol):
    """One conversion."""

    def __call__(self, source: Artifact, folder: Path) -> dict[str, Any]:
        """Write the target's model file into `folder` and return notes for its manifest."""
        ...


def convert_task(edge: str, source: str, target: str, format: str) -> dict[str, Any]:
    """Worker task: run one edge and write the Artifact, with the golden images of its source.

    Args:
        edge: key in the catalogue.
        source: folder of the Artifact to convert.
        target: folder of the Artifact to write.
        format: name of the target's format.
    """
    parent = Artifact.open(source)
    convert: Edge = catalog.load("edge", edge)
    notes: dict[str, Any] = {}
    with Artifact.write(
        Path(target), format=format, like=parent.inherited(), golden=parent.golden(), notes=notes
    ) as folder:
        notes.update(convert(parent, folder))
    return {"path": target}
