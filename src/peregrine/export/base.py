"""What every conversion is: a function from an Artifact to the files of another format.

    def convert(source: Artifact, folder: Path) -> dict[str, Any]:
        \"\"\"Write the model into `folder` under its format's fixed name; return notes for the manifest.\"\"\"

A conversion to INT8 takes a third argument, the `Samples` that it calibrates with and chooses its settings by. An
edge's file is named by the edge, `keras_to_onnx.py`, and so is its key in the catalogue; `routes` finds the shortest
way from what there is to what is wanted. Each edge runs in a worker process of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.export.samples import Samples

Edge = Callable[..., dict[str, Any]]


def fix_batch_task(source: str, target: str, batch: int) -> dict[str, Any]:
    """Worker task: write the Artifact again, in the same format, for batches of one size.

    Args:
        source: folder of an Artifact that takes any batch.
        target: folder of the Artifact to write.
        batch: images in each batch.
    """
    parent = Artifact.open(source)
    fix = catalog.load("static", parent.format.file)
    with Artifact.write(
        Path(target),
        format=parent.manifest.format,
        like=parent.inherited(),
        golden=parent.golden(),
        notes=parent.manifest.notes,
        batch=batch,
    ) as folder:
        fix(parent, folder, batch)
    return {"path": target}


def convert_task(edge: str, source: str, target: str, format: str, samples: str | None = None) -> dict[str, Any]:
    """Worker task: run one edge and write the Artifact, with the golden images of its source.

    Args:
        edge: key in the catalogue.
        source: folder of the Artifact to convert.
        target: folder of the Artifact to write.
        format: name of the target's format.
        samples: file of `Samples`, for a conversion to INT8.
    """
    parent = Artifact.open(source)
    convert: Edge = catalog.load("edge", edge)
    images = Samples.load(samples) if samples else None
    notes: dict[str, Any] = {}
    with Artifact.write(
        Path(target), format=format, like=parent.inherited(), golden=parent.golden(), notes=notes, batch=parent.batch
    ) as folder:
        notes.update(convert(parent, folder, images) if images else convert(parent, folder))
        if images:
            notes.update(images.record)
    return {"path": target}
