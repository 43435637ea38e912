"""Judge a model on a split: the figures, and the pictures that people look at."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files, metrics, progress
from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate, default_candidate
from peregrine.dataset import Dataset, Splits
from peregrine.rundir import RunDirectory
from peregrine.runtimes.base import BATCH, Runtime
from peregrine.stages import plots
from peregrine.stages.target import Target
from peregrine.tta import VIEWS, check_tta, combine, least_certain, other_views

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
) -> dict[str, Any]:
    """Accuracy, per-class figures, confusion matrix and calibration of a model.

    Judging a whole run on its own test split writes `results/inference_results.json` and its pictures; anything else
    only returns the figures. What is written is without test-time augmentation, whatever is asked for: so the model is
    exported, proved and measured.

    Args:
        target: a run (its trained model is judged) or an Artifact.
        data: judge on this data instead of the run's own.
        split: `test`, `validation` or `train`.
        runtime: run it by this runtime instead of the format's first.
        tta: test-time augmentation: `none`, `flip` (each image and its mirror image) or `full` (both also shifted by
            one pixel, up and left, and down and right).
        tta_share: share of the images that are looked at so: those with the least certain answers.

    Returns:
        `metrics.evaluate`'s figures, and `split`, `tta`, `candidate`, `fingerprint`, `seconds` (of prediction). With
        test-time augmentation the figures are those with it, `tta_share` stands beside them, and `without_tta` has
        `accuracy`, `accuracy_interval`, `loss`, `ece` and `seconds` without.

    Raises:
        UsageError: `target` is neither a run nor an Artifact, or there is no such test-time augmentation or share.
    """
    check_tta(tta, tta_share)
    found = Target.find(target)
    part = found.splits(data).part(split)
    record = found.whole_run and data is None and split == "test"
    return evaluate_part(found, part, split, runtime, record, tta=tta, tta_share=tta_share)


def evaluate_part(
    target: Target,
    part: Dataset,
    split: str,
    runtime: str | None,
    record: bool,
    pictures: bool = True,
    tta: str = "none",
    tta_share: float = 1.0,
) -> dict[str, Any]:
    """`evaluate` with the data at hand; `record` writes the results into the run, and the pictures where wanted."""
    candidate = default_candidate(target.artifact, runtime)
    with candidate.open() as opened:
        started = time.perf_counter()
        plain = predict_all(opened, part, f"evaluate {candidate.key}")
        plain_s = time.perf_counter() - started
        answers = plain if tta == "none" else with_other_views(opened, part, plain, tta, tta_share)
        seconds = time.perf_counter() - started
    result = _judge(target.artifact, part, split, candidate, plain, {"tta": "none", "seconds": plain_s})
    usual = candidate == default_candidate(target.artifact)  # an imported ONNX file has several ways to be run
    if target.run and target.artifact.manifest.parent is None and split == "test" and usual:
        save_answers(target.run, target.artifact, part, plain)
    if record and target.run:
        files.write_json(target.run.results / "inference_results.json", result)
        if pictures:
            with progress.bar("plots", total=5, unit="picture") as advance:
                _draw(target.run, part, plain, result, advance)
    if tta == "none":
        return result
    without = {key: result[key] for key in (*SHORT, "seconds")}
    how = {"tta": tta, "tta_share": tta_share, "seconds": seconds, "without_tta": without}
    return _judge(target.artifact, part, split, candidate, answers, how)


def _judge(
    artifact: Artifact, part: Dataset, split: str, candidate: Candidate, answers: Probabilities, how: dict[str, Any]
) -> dict[str, Any]:
    """All figures of these answers, the main ones of which the Artifact learns."""
    judged = metrics.evaluate(answers, part.labels, part.class_names)
    result = {"schema": 1, "split": split, "candidate": candidate.key, "fingerprint": part.fingerprint, **how, **judged}
    view = "" if how["tta"] == "none" else f":tta-{how['tta']}-{how['tta_share']:g}"
    topic = f"evaluation:{split}:{part.fingerprint[:12]}{view}"
    artifact.learn(topic, {key: result[key] for key in ("candidate", "images", *SHORT)})
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


def ancestor_answers(target: Target, part: Dataset) -> Probabilities:
    """What the ancestor says to each image of `part`, from the run's cache or computed once: `(N, C)`."""
    run = target.run
    assert run is not None
    ancestor = run.ancestor()
    path = _answers_path(run, ancestor, part)
    if path.is_file():
        with np.load(path, allow_pickle=False) as saved:
            if np.array_equal(saved["ids"], part.ids):
                answers: Probabilities = saved["probabilities"]
                return answers
    with default_candidate(ancestor).open() as runtime:
        answers = predict_all(runtime, part, f"answers of {ancestor.manifest.format}")
    save_answers(run, ancestor, part, answers)
    return answers


def save_answers(run: RunDirectory, ancestor: Artifact, part: Dataset, answers: Probabilities) -> None:
    """Keep the ancestor's answers: every proof needs them."""
    with files.writing(_answers_path(run, ancestor, part)) as temporary, temporary.open("wb") as file:
        np.savez(file, probabilities=answers, ids=part.ids)


def _answers_path(run: RunDirectory, ancestor: Artifact, part: Dataset) -> Path:
    return run.cache / f"answers-{ancestor.id[:12]}-{part.fingerprint[:12]}.npz"


def _draw(
    run: RunDirectory, part: Dataset, probabilities: Probabilities, result: dict[str, Any], advance: progress.Advance
) -> None:
    results = run.results
    plots.confusion_matrix(result, results / "confusion_matrix.png")
    advance()
    plots.class_accuracy(result, results / "class_accuracy.png")
    advance()
    plots.prediction_samples(part, probabilities, results / "prediction_samples.png")
    advance()
    plots.confidence_distribution(probabilities, part.labels, results / "confidence_distribution.png")
    advance()
    plots.reliability(result, results / "reliability.png")
    advance()
