"""The reject threshold: chosen on the run's own validation split and on nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine import files
from peregrine.artifact import Artifact, Golden
from peregrine.dataset import Dataset
from peregrine.errors import MissingDependency, UsageError
from peregrine.metrics import softmax
from peregrine.rundir import RunDirectory
from peregrine.stages.rejecting import choose, judged, threshold_of
from peregrine.stages.target import Target

CLASSES = ("cat", "dog")


def data(images: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, images)
    return Dataset(random.integers(0, 256, (images, 4, 4, 3), np.uint8), labels, np.arange(images).astype(str), CLASSES)


def answer(part: Dataset) -> Any:
    """Sometimes sure, and then right."""
    random = np.random.default_rng(len(part))
    logits = random.normal(size=(len(part), 2))
    logits[np.arange(len(part)), part.labels] += random.uniform(0, 4, len(part))
    return softmax(logits).astype(np.float32)


def trained(path: Path, validation: Dataset | None, chosen_by: float | str = 0.1) -> Target:
    """A run with an ancestor that was never trained."""
    fingerprints = {"test": "ab"} | ({"validation": validation.fingerprint} if validation is not None else {})
    run = RunDirectory.create(path, None, {"source": "memory", "fingerprints": fingerprints})
    like = {
        "class_names": CLASSES, "preprocess": {"size": 4}, "model": {}, "engine": "pytorch",
        "recipe": {"validation": chosen_by}, "temperature": 1.0,
    }  # fmt: skip
    golden = Golden(np.zeros((1, 4, 4, 3), np.uint8), {"ancestor": np.ones((1, 2), np.float32)})
    with Artifact.write(run.artifact_path("torch"), format="torch", like=like, golden=golden) as folder:
        files.write_text(folder / "model.safetensors", "weights")
    return Target.find(run)


def test_half_the_error_unless_a_target_is_given(tmp_path: Path) -> None:
    validation, test = data(800, 0), data(600, 1)
    target = trained(tmp_path / "run", validation)
    answers = answer(validation)
    accuracy = float((answers.argmax(1) == validation.labels).mean())
    found = choose(target, validation, None, answer)
    assert found is not None
    assert found["chosen_on"] == "validation"
    assert found["target_accuracy"] == pytest.approx(1 - (1 - accuracy) / 2)
    kept = answers.max(1) >= found["threshold"]
    assert (answers.argmax(1) == validation.labels)[kept].mean() >= found["target_accuracy"]
    stricter = choose(target, validation, 0.99, answer)
    assert stricter is not None
    assert stricter["target_accuracy"] == 0.99
    assert stricter["threshold"] > found["threshold"]
    told = judged(stricter, answer(test), test)
    assert told is not None
    assert 0 < told["coverage"] < 1
    assert told["accuracy_interval"][0] < told["accuracy"] < told["accuracy_interval"][1]
    assert told["threshold"] == stricter["threshold"]


def test_a_target_that_no_threshold_reaches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    validation = data(50, 0)
    target = trained(tmp_path / "run", validation)

    def wrong(part: Dataset) -> Any:
        return np.eye(2, dtype=np.float32)[1 - part.labels]

    assert choose(target, validation, 0.9, wrong) is None
    assert "no threshold of confidence reaches an accuracy of 90.00% on validation" in caplog.text
    high = {"threshold": 1.0, "target_accuracy": 0.9, "chosen_on": "validation"}
    nothing = {"coverage": 0.0, "accuracy": None, "accuracy_interval": None}
    assert judged(high, answer(validation), validation) == {**high, **nothing}, "none of the answers is kept"


def test_the_threshold_of_the_run_holds_for_all_that_is_judged(tmp_path: Path) -> None:
    """Unless the run itself is judged again, or a target is asked for."""
    validation = data(800, 0)
    target = trained(tmp_path / "run", validation)
    assert target.run is not None
    strict = choose(target, validation, 0.99, answer)
    judged_on_test = judged(strict, answer(data(600, 1)), data(600, 1))
    files.write_json(target.run.results / "inference_results.json", {"reject": judged_on_test})

    def nobody(_: Dataset) -> Any:
        raise AssertionError("nothing has to be asked")

    assert choose(target, validation, None, nobody, anew=False) == strict
    assert choose(target, data(60, 2), None, nobody, anew=False) == strict, "on other images too"
    again = choose(target, validation, None, answer)
    assert again is not None
    assert strict is not None
    assert again["threshold"] < strict["threshold"]
    assert choose(target, validation, 0.99, answer, anew=False) == strict
    assert choose(target, data(60, 2), None, nobody) == strict, "where nothing can be chosen any more it stays"
    files.write_json(target.run.results / "inference_results.json", {"reject": None})
    assert choose(target, validation, None, nobody, anew=False) is None, "no threshold reached the target"


@pytest.mark.parametrize(
    ("held_out", "chosen_by", "given"),
    [(True, "test", True), (True, "none", True), (False, 0.1, True), (True, 0.1, False)],
)
def test_where_nothing_may_be_chosen(tmp_path: Path, held_out: bool, chosen_by: float | str, given: bool) -> None:
    """Validation on test, no validation, other images than the run's, no images."""
    validation = data(60, 0)
    target = trained(tmp_path / "run", validation if held_out else None, chosen_by)
    assert choose(target, validation if given else None, None, answer) is None
    assert judged(None, answer(validation), validation) is None
    with pytest.raises(UsageError, match=r"needs the validation split of the run's own data; .* has none here"):
        choose(target, validation if given else None, 0.9, answer)


def test_an_export_is_judged_without_what_trained_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    validation = data(60, 0)
    target = trained(tmp_path / "run", validation)

    def missing(_: Dataset) -> Any:
        raise MissingDependency("runtime torch needs the library 'torch', which is not installed")

    assert choose(target, validation, None, missing, anew=False) is None
    assert caplog.messages == [
        "no threshold to reject answers below is known: runtime torch needs the library 'torch', which is not installed"
    ]
    with pytest.raises(MissingDependency):
        choose(target, validation, 0.9, missing, anew=False)


def test_what_was_chosen_last_is_found_again(tmp_path: Path) -> None:
    target = trained(tmp_path / "run", data(60, 0))
    assert target.run is not None
    path = target.run.results / "inference_results.json"
    assert threshold_of(target) is None
    for content, expected in (
        ({"reject": {"threshold": 0.75}}, 0.75),
        ({"reject": None}, None),
        ({"accuracy": 0.9}, None),  # of an older version
        ([], None),
    ):
        files.write_json(path, content)
        assert threshold_of(target) == expected
    path.write_text("{")
    assert threshold_of(target) is None, "predicting does not need the file"
    assert threshold_of(Target(target.artifact, None, whole_run=False)) is None
