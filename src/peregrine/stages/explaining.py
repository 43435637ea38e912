"""Say in one sentence at which layer an export parts from the trained model."""

from pathlib import Path

import numpy as np

from peregrine import files, progress, worker
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate, default_candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice
from peregrine.rundir import RunDirectory

TIMEOUT_S = 600
IMAGES = 16  # those on which the two differ most
SHOWN_BY = {".onnx": "onnxruntime", ".keras": "keras"}  # a file's suffix, and the runtime that shows every value of it


def explain(run: RunDirectory, candidate: Candidate, artifact: Artifact, images: Images, scratch: Path) -> str:
    """Compare the layers of an ONNX or Keras file that failed its proof with those of the model it comes from.

    A float32 file is compared with the trained model, another with the run's float32 ONNX. All layers and their
    differences are written to `results/explain-<format>.json`.

    Args:
        images: those on which the two models differ most.
        scratch: a folder for what is handed to the worker.
    """
    format = artifact.format
    shown_by = SHOWN_BY.get(Path(format.file).suffix)
    if shown_by is None:
        return (
            f"the layers of a {format.file} cannot be looked into; explain the ONNX or Keras file that it was made of"
        )
    if artifact.batch:
        return "a file for batches of one size holds the layers of the one for any; explain that, without a batch"
    reference = run.ancestor() if format.precision == "fp32" else _float_onnx(run, artifact)
    if reference is None:
        return "there is no float32 ONNX file of the same model to compare layers with; export onnx first"
    path = scratch / "worst.npy"
    np.save(path, images)
    arguments = {
        "candidate": default_candidate(artifact, shown_by).to_dict(),
        "reference": default_candidate(reference).to_dict(),
        "images": str(path),
    }
    try:
        with progress.bar(f"explain {candidate.key}", total=None):
            found = worker.call(f"explain-{format.name}", run.logs, "explain", arguments, TIMEOUT_S)
    except (MissingDependency, MissingDevice, CheckFailed) as error:
        return f"its layers could not be compared: {error}"
    written = run.results / f"explain-{format.name}.json"
    files.write_json(written, {"schema": 1, "artifact": artifact.id, "reference": reference.id, **found})
    first = found["first"]
    if first is None:
        return (
            f"no layer of the file differs by more than {found['limit']:g}: {candidate.runtime} computes something "
            f"else than the file says; see {written}"
        )
    before = "" if first["before"] is None else f", what it reads by {first['before']:.2g}"
    return (
        f"the first layer that diverges from {reference.format.name} is {first['operation']} {first['name']!r}: its "
        f"values differ by {first['difference']:.2g} of their size{before}; see {written}"
    )


def _float_onnx(run: RunDirectory, artifact: Artifact) -> Artifact | None:
    path = run.artifact_path("onnx")
    if not (path / "manifest.json").is_file():
        return None
    found = Artifact.open(path)
    return found if found.root_id == artifact.root_id else None
