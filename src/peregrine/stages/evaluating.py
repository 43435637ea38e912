"""Judge a model on a split: the figures, and the pictures that people look at."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files, metrics, progress
from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate, default_candidate
from peregrine.dataset import Dataset, Splits
from peregrine.rejection import coverage_curve
from peregrine.rundir import RunDirectory
from peregrine.runtimes.base import BATCH, Runtime
from peregrine.stages import plots, rejecting
from peregrine.stages.robustness import measure_robustness
from peregrine.stages.target import Target
from peregrine.tta import VIEWS, check_tta, combine, least_certain, other_views

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
SHORT = ("accuracy", "accuracy_interval", "loss", "ece")
logger = logging.getLogger("peregrine")


def evaluate(
    target: str | Path | Artifact,
    *,
    data: str | Path | Splits | None = None,
    split: str = "test",
    runtime: str | None = None,
    tta: str = "none",
    tta_share: float = 1.0,
    target_accuracy: float | None = None,
    robustness: bool = False,
) -> dict[str, Any]:
    """Accuracy, per-class figures, confusion matrix, calibration, and accuracy against coverage of a model.

    Judging a whole run on its own test split writes `results/inference_results.json` and its pictures; of anything else
    the Artifact learns the main figures. Where there is only permission to read, nothing is kept, and a warning says
    so. What is written is without test-time augmentation, whatever is asked for: so the model is exported, proved and
    measured.

    Args:
        target: a run (its trained model is judged) or an Artifact.
        data: judge on this data instead of the run's own; where it has no splits, on all of it.
        split: `test`, `validation` or `train`.
        runtime: run it by this runtime instead of the format's first.
        tta: test-time augmentation: `none`, `flip` (each image and its mirror image) or `full` (both also shifted by
            one pixel, up and left, and down and right).
        tta_share: share of the images that are looked at so: those with the least certain answers.
        target_accuracy: that the reject threshold should reach on the run's validation split, above 0 and at most 1;
            by default it rejects enough for half the error.
        robustness: also measure the error under 15 corruptions at 5 severities, without test-time augmentation.

    Returns:
        `metrics.evaluate`'s figures, and `split`, `tta`, `candidate`, `fingerprint`, `seconds` (of prediction). With
        test-time augmentation the figures are those with it, `tta_share` stands beside them, and `without_tta` has
        `accuracy`, `accuracy_interval`, `loss`, `ece` and `seconds` without. `coverage` is the accuracy of the answers
        that thresholds of confidence keep (see `rejection.coverage_curve`). `reject` is the threshold that was chosen
        on validation with the run's trained model, with its `coverage` and `accuracy` here: that of the last
        evaluation of the run, unless this is one or has a target of its own. It is None where there is no such split,
        or no such threshold. `robustness` is what `measure_robustness` returns; what a run has of it stays when it is
        evaluated again without.

    Raises:
        UsageError: `target` is neither a run nor an Artifact, another process writes the run, there is no such
            test-time augmentation or share, or a target accuracy cannot be aimed at.
        CheckFailed: the images of this split are not those of the run any more.
    """
    check_tta(tta, tta_share)
    rejecting.check_target(target_accuracy)
    found = Target.find(target)
    splits = found.splits(data, split)
    part = splits.part(split)
    with _held(found) as writable:
        return evaluate_part(
            found,
            part,
            split,
            runtime,
            record=writable and found.whole_run and data is None and split == "test",
            tta=tta,
            tta_share=tta_share,
            validation=splits.validation,
            target_accuracy=target_accuracy,
            robustness=robustness,
        )


@contextlib.contextmanager
def _held(target: Target) -> Iterator[bool]:
    """Hold the run for writing, and record the verb; false where there is only permission to read."""
    place = target.run.path if target.run else target.artifact.path
    if not os.access(place, os.W_OK | os.X_OK):
        logger.warning("%s can only be read: what is found is not kept there", place)
        yield False
    elif target.run is None:
        yield True
    else:
        with target.run.lock(), target.run.verb("evaluate"):
            yield True


def evaluate_part(
    target: Target,
    part: Dataset,
    split: str,
    runtime: str | None,
    record: bool,
    pictures: bool = True,
    tta: str = "none",
    tta_share: float = 1.0,
    validation: Dataset | None = None,
    target_accuracy: float | None = None,
    robustness: bool = False,
) -> dict[str, Any]:
    """`evaluate` with the data at hand and the run locked.

    Args:
        record: write the results into the run, and the pictures where wanted.
    """
    candidate = default_candidate(target.artifact, runtime)
    with candidate.open() as opened:
        reject = rejecting.choose(
            target,
            validation,
            target_accuracy,
            lambda held_out: ancestor_answers(target, held_out, opened),
            anew=record,
        )
        started = time.perf_counter()
        plain = predict_all(opened, part, f"evaluate {candidate.key}")
        plain_s = time.perf_counter() - started
        answers = plain if tta == "none" else with_other_views(opened, part, plain, tta, tta_share)
        seconds = time.perf_counter() - started
        borne = {"robustness": measure_robustness(opened, part, plain)} if robustness else {}
    how = {"tta": "none", "seconds": plain_s, "reject": reject}
    result = {**_judge(target.artifact, part, split, candidate, plain, how), **borne}
    usual = candidate == default_candidate(target.artifact)  # an imported ONNX file has several ways to be run
    if target.run and target.artifact.manifest.parent is None and split == "test" and usual:
        save_answers(target.run, target.artifact, part, plain)
    if record and target.run:
        result = {**_kept(target.run, result), **result}
        files.write_json(target.run.results / "inference_results.json", result)
        if pictures:
            _draw(target.run, part, plain, result)
    if tta == "none":
        return result
    without = {key: result[key] for key in (*SHORT, "seconds")}
    how = {"tta": tta, "tta_share": tta_share, "seconds": seconds, "without_tta": without, "reject": reject}
    return {**_judge(target.artifact, part, split, candidate, answers, how), **borne}


def _judge(
    artifact: Artifact, part: Dataset, split: str, candidate: Candidate, answers: Probabilities, how: dict[str, Any]
) -> dict[str, Any]:
    """All figures of these answers, the main ones of which the Artifact learns."""
    result = {
        "schema": 1,
        "split": split,
        "candidate": candidate.key,
        "fingerprint": part.fingerprint,
        **how,
        **metrics.evaluate(answers, part.labels, part.class_names),
        "coverage": coverage_curve(answers, part.labels),
        "reject": rejecting.judged(how["reject"], answers, part),
    }
    view = "" if how["tta"] == "none" else f":tta-{how['tta']}-{how['tta_share']:g}"
    topic = f"evaluation:{split}:{part.fingerprint[:12]}{view}"
    try:
        artifact.learn(topic, {key: result[key] for key in ("candidate", "images", *SHORT)})
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    return result


def predict_all(runtime: Runtime, part: Dataset, label: str) -> Probabilities:
    """Probabilities of a whole data set, with a progress bar: float32 `(N, C)`."""
    answers = np.empty((len(part), len(runtime.class_names)), np.float32)
    with progress.bar(label, total=len(part), unit="image") as advance:
        for start in range(0, len(part), 4 * BATCH):
            images = part.images[start : start + 4 * BATCH]
            answers[start : start + len(images)] = runtime.predict(images)
            advance(len(images))
    return answers


def with_other_views(runtime: Runtime, part: Dataset, plain: Probabilities, tta: str, share: float) -> Probabilities:
    """The answers with test-time augmentation of the least certain `share` of the images: float32 `(N, C)`."""
    answers, chosen = plain.copy(), least_certain(plain, share)
    with progress.bar(f"other views, {tta}", total=len(chosen) * (len(VIEWS[tta]) - 1), unit="image") as advance:
        for start in range(0, len(chosen), 4 * BATCH):
            some = chosen[start : start + 4 * BATCH]
            said = [plain[some]]
            for view in other_views(part.images[some], tta):
                said.append(runtime.predict(view))
                advance(len(some))
            answers[some] = combine(said, tta)
    return answers


def ancestor_answers(target: Target, part: Dataset, opened: Runtime | None = None) -> Probabilities:
    """What the ancestor says to each image of `part`, from the run's cache or computed once: `(N, C)`.

    Args:
        opened: is asked instead of a second one, where it is the ancestor.
    """
    run = target.run
    assert run is not None
    ancestor = run.ancestor()
    path = _answers_path(run, ancestor, part)
    if path.is_file():
        with np.load(path, allow_pickle=False) as saved:
            answers: Probabilities = saved["probabilities"]
            return answers
    label = f"answers of {ancestor.manifest.format}"
    if opened is not None and opened.candidate == default_candidate(ancestor):
        answers = predict_all(opened, part, label)
    else:
        with default_candidate(ancestor).open() as runtime:
            answers = predict_all(runtime, part, label)
    save_answers(run, ancestor, part, answers)
    return answers


def save_answers(run: RunDirectory, ancestor: Artifact, part: Dataset, answers: Probabilities) -> None:
    """Keep the ancestor's answers: every proof needs them, but where they cannot be kept, it can ask again."""
    path = _answers_path(run, ancestor, part)
    try:
        with files.writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, probabilities=answers)
    except OSError as error:
        logger.debug("%s is not kept: %s", path, error.strerror)


def _answers_path(run: RunDirectory, ancestor: Artifact, part: Dataset) -> Path:
    return run.cache / f"answers-{ancestor.id[:12]}-{part.ordered_fingerprint[:12]}.npz"


def _kept(run: RunDirectory, result: dict[str, Any]) -> dict[str, Any]:
    """What an earlier evaluation of the same model on the same images measured, and takes long to measure again."""
    before = rejecting.recorded(run)
    same = all(before.get(key) == result[key] for key in ("candidate", "fingerprint"))
    return {"robustness": before["robustness"]} if same and "robustness" in before else {}


def _draw(run: RunDirectory, part: Dataset, probabilities: Probabilities, result: dict[str, Any]) -> None:
    results, labels = run.results, part.labels
    drawings: dict[str, Callable[[Path], None]] = {
        "confusion_matrix": lambda path: plots.confusion_matrix(result, path),
        "class_accuracy": lambda path: plots.class_accuracy(result, path),
        "prediction_samples": lambda path: plots.prediction_samples(part, probabilities, path),
        "mistakes": lambda path: plots.mistakes(part, probabilities, path),
        "confidence_distribution": lambda path: plots.confidence_distribution(probabilities, labels, path),
        "reliability": lambda path: plots.reliability(result, path),
        "coverage": lambda path: plots.coverage(result, path),
    }
    if "robustness" in result:
        drawings["robustness"] = lambda path: plots.robustness(result["robustness"], part.images[0], path)
    with progress.bar("plots", total=len(drawings), unit="picture") as advance:
        for name, draw in drawings.items():
            draw(results / f"{name}.png")
            advance()
