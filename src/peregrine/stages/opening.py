"""Open a model for use."""

import logging
import shlex
from pathlib import Path

from peregrine import catalog, files
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate, candidates, default_candidate
from peregrine.errors import UsageError
from peregrine.rundir import RunDirectory
from peregrine.runtimes.base import Runtime
from peregrine.stages.target import Target

TRAINING = {"tensorflow", "torch"}  # extras whose libraries take seconds to start
logger = logging.getLogger("peregrine")


def open_model(target: str | Path | Artifact, *, runtime: str | None = None, verify: bool = False) -> Runtime:
    """Open a run or an Artifact; use the result in a `with` block.

    Args:
        target: an Artifact, or a run (see `answering`).
        runtime: one of the format's runtimes, instead of its first.
        verify: also run the golden images and compare.

    Raises:
        UsageError: neither a run nor an Artifact.
        DamagedFile: a file is not what its manifest says, or with `verify` the answers differ.
        MissingDependency: the runtime's library is not installed.
    """
    opened = answering(target, runtime).open()
    if verify:
        try:
            opened.verify()
        except BaseException:
            opened.close()
            raise
    return opened


def answering(target: str | Path | Artifact, runtime: str | None = None) -> Candidate:
    """Who answers: of an Artifact its usual Candidate, of a run the one that `best` chose; the log says which.

    A run without a `best.json`, or with one that is out of date, or that is asked for another runtime, answers by its
    first proved fp32 export (that this runtime opens), which says the same as the trained model and starts in a
    fraction of the time, else by the trained model.
    """
    found = Target.find(target)
    if not found.whole_run or found.run is None:
        return default_candidate(found.artifact, runtime)
    best = _best(found.run, found.artifact)
    if best is not None and runtime in (None, best.runtime):
        logger.info("%s answers, which `peregrine best` chose", best.key)
        return best
    candidate = _as_trained(found.run, found.artifact, runtime)
    logger.info("%s answers", candidate.key)
    return candidate


def _best(run: RunDirectory, ancestor: Artifact) -> Candidate | None:
    """What best.json names, if that is still there, unchanged, and of the model that the run has now."""
    path = run.results / "best.json"
    if not path.is_file():
        return None
    chosen = files.read_json(path)
    try:
        artifact = Artifact.open(run.artifacts_folder / Path(chosen["artifact"]).name)
        if artifact.root_id != ancestor.id:
            why = "the run has another trained model since"
        elif artifact.id != chosen["artifact_id"]:
            why = f"{artifact.path} was written anew since"
        else:
            return next(candidate for candidate in candidates(artifact) if candidate.key == chosen["candidate"])
    except UsageError:
        why = "its artifact is gone"
    except StopIteration:
        why = f"{chosen['candidate']} does not run on this machine"
    except (KeyError, TypeError):
        why = "it lacks what belongs there"
    logger.warning("%s is out of date: %s; run: peregrine best %s", path, why, shlex.quote(str(run.path)))
    return None


def _as_trained(run: RunDirectory, ancestor: Artifact, runtime: str | None) -> Candidate:
    """The first proved fp32 export, as it is usually run or by the `runtime`, else the trained model itself.

    An export that needs a training library too is passed over, unless its runtime was asked for.
    """
    for artifact in run.artifacts():
        if artifact.batch:  # a single image would take as long as a whole batch
            continue
        if runtime is not None and runtime not in artifact.format.runtimes:
            continue
        usual = default_candidate(artifact, runtime)
        proof = artifact.evidence().get("parity", {}).get(usual.key)
        wanted = runtime is not None or catalog.find("runtime", usual.runtime).extra not in TRAINING
        if wanted and usual.precision == "fp32" and proof and proof["verdict"] != "failed":
            return usual
    return default_candidate(ancestor, runtime)
