"""The reject threshold of a run: chosen on validation with its trained model, for all its Artifacts."""

import logging
from collections.abc import Callable
from typing import Any

from peregrine import files
from peregrine.artifact import Probabilities
from peregrine.dataset import Dataset
from peregrine.errors import DamagedFile, MissingDependency, MissingDevice, UsageError
from peregrine.rejection import choose_threshold, half_the_error, judge_threshold
from peregrine.rundir import RunDirectory
from peregrine.stages.target import Target

logger = logging.getLogger("peregrine")


def check_target(accuracy: float | None) -> None:
    """Refuse what is no target accuracy.

    Raises:
        UsageError: it is not above 0 and at most 1.
    """
    if accuracy is not None and not 0 < accuracy <= 1:
        raise UsageError(f"a target accuracy is above 0 and at most 1, such as 0.99; got {accuracy:g}")


def choose(
    target: Target,
    validation: Dataset | None,
    target_accuracy: float | None,
    answer: Callable[[Dataset], Probabilities],
    anew: bool = True,
) -> dict[str, Any] | None:
    """The threshold, and what it was chosen for; None where no threshold reaches that, or nothing may be chosen.

    A run has one, of its last evaluation, which all its Artifacts are judged with.

    Args:
        validation: of the data that is judged on; it is looked at only where it is the run's own.
        target_accuracy: that the answers kept should reach; None asks for half the error of all answers.
        answer: asks the run's trained model.
        anew: choose, though the run has a threshold; a target accuracy asks for that too.

    Returns:
        `threshold`, `target_accuracy`, and `chosen_on`: `validation`.

    Raises:
        UsageError: a target was asked for, and there is no validation split to choose on.
        MissingDependency, MissingDevice: a target was asked for, and the trained model cannot be asked here.
    """
    evaluated = recorded(target.run) if target.run else {}
    if "reject" in evaluated and not anew and target_accuracy is None:
        return _kept(evaluated)
    if validation is None or not _is_own(target, validation):
        if target_accuracy is not None:
            raise UsageError(
                f"a target accuracy needs the validation split of the run's own data; {target.artifact.path} has none "
                "here; leave out the target, or train with validation=0.1"
            )
        return _kept(evaluated)
    try:
        answers = answer(validation)
    except (MissingDependency, MissingDevice) as error:  # an export can be judged without what trained the model
        if target_accuracy is not None:
            raise
        logger.warning("no threshold to reject answers below is known: %s", error)
        return _kept(evaluated)
    if target_accuracy is None:
        target_accuracy = half_the_error(float((answers.argmax(1) == validation.labels).mean()))
    threshold = choose_threshold(answers, validation.labels, target_accuracy)
    if threshold is None:
        logger.warning(
            "no threshold of confidence reaches an accuracy of %.2f%% on validation; nothing is rejected",
            100 * target_accuracy,
        )
        return None
    return {"threshold": threshold, "target_accuracy": target_accuracy, "chosen_on": "validation"}


def _kept(evaluated: dict[str, Any]) -> dict[str, Any] | None:
    """What an evaluation of the run chose."""
    reject = evaluated.get("reject") or None
    return {key: reject[key] for key in ("threshold", "target_accuracy", "chosen_on")} if reject else None


def judged(reject: dict[str, Any] | None, answers: Probabilities, part: Dataset) -> dict[str, Any] | None:
    """A chosen threshold with its coverage and accuracy on these answers.

    Where it keeps none of them the accuracy is None; the threshold holds for other images all the same.
    """
    if reject is None:
        return None
    nothing = {"coverage": 0.0, "accuracy": None, "accuracy_interval": None}
    return {**reject, **(judge_threshold(answers, part.labels, reject["threshold"]) or nothing)}


def threshold_of(target: Target) -> float | None:
    """The threshold that the last evaluation of the run chose; None where there is no run, or no threshold."""
    reject = (recorded(target.run).get("reject") if target.run else None) or {}
    threshold: float | None = reject.get("threshold")
    return threshold


def recorded(run: RunDirectory) -> dict[str, Any]:
    """The run's evaluation; `{}` where there is none that can be read."""
    try:
        found = files.read_json(run.results / "inference_results.json")
    except (OSError, DamagedFile):
        found = None
    return found if isinstance(found, dict) else {}


def _is_own(target: Target, validation: Dataset) -> bool:
    """Whether these are the images that the run held out to choose on, and neither trained nor judged on."""
    return target.held_out and target.recorded("validation") == validation.fingerprint
