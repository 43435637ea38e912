"""Open a model for use."""

from pathlib import Path

from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.runtimes.base import Runtime
from peregrine.stages.target import Target

TRAINING = {"tensorflow", "torch"}  # extras whose libraries take seconds to start


def open_model(target: str | Path | Artifact, *, runtime: str | None = None, verify: bool = False) -> Runtime:
    """Open a run or an Artifact; use the result in a `with` block.

    Args:
        target: an Artifact, or a run (see `preferred`).
        runtime: one of the format's runtimes, instead of its first.
        verify: also run the golden images and compare.

    Raises:
        UsageError: neither a run nor an Artifact.
        DamagedFile: a file is not what its manifest says, or with `verify` the answers differ.
        MissingDependency: the runtime's library is not installed.
    """
    opened = default_candidate(preferred(target), runtime).open()
    if verify:
        try:
            opened.verify()
        except BaseException:
            opened.close()
            raise
    return opened


def preferred(target: str | Path | Artifact) -> Artifact:
    """The Artifact to predict with: of a run the first proved fp32 export, else its trained model.

    An export starts in a fraction of the time that the training library needs; one that needs such a library too is
    passed over.
    """
    found = Target.find(target)
    if not found.whole_run or found.run is None:
        return found.artifact
    for artifact in found.run.artifacts():
        if artifact.batch:  # a single image would take as long as a whole batch
            continue
        usual = default_candidate(artifact)
        proof = artifact.evidence().get("parity", {}).get(usual.key)
        starts_fast = catalog.find("runtime", usual.runtime).extra not in TRAINING
        if starts_fast and usual.precision == "fp32" and proof and proof["verdict"] != "failed":
            return artifact
    return found.artifact
