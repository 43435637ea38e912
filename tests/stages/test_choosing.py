"""Choosing the best of a run with real models in real workers; who wins on given numbers is in test_ranking.py."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_making
import peregrine
import tiny
from peregrine import files, host, worker
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset, Splits
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.choosing import attempt
from peregrine.stages.opening import answering

ORT, INT8 = "onnx@onnxruntime", "onnx-int8@onnxruntime"
IMAGES = 60  # in each split


@dataclass(frozen=True)
class Made:
    """A run whose trained model is always right, and whose INT8 export is another network."""

    run: RunDirectory
    ancestor: Artifact
    int8: Artifact
    splits: Splits
    int8_accuracy: dict[str, float]  # by split

    def best(self, **options: Any) -> dict[str, Any]:
        return peregrine.best(self.run.path, data=self.splits, **options)


def answers(artifact: Artifact, images: Any) -> Any:
    with default_candidate(artifact).open() as runtime:
        return runtime.predict(images).argmax(1)


def row(artifact: Artifact, per_s: float, **changes: Any) -> dict[str, Any]:
    candidate = default_candidate(artifact)
    return {
        "candidate": candidate.key,
        "artifact_id": artifact.id,
        "precision": candidate.precision,
        "threads": 2,
        "throughput_per_s": per_s,
        "latency_ms_p50": 1000 / per_s,
        "size_bytes": artifact.size_bytes,
        **changes,
    }


def prove(artifact: Artifact, verdict: str = "passed", **changes: Any) -> None:
    key = default_candidate(artifact).key
    proof = {"verdict": verdict, "reasons": ["it rained"], "accuracy": 0.5, "images": 10, "fingerprint": "other"}
    artifact.learn("parity", {key: {**proof, **changes}})


def measure(run: RunDirectory, *rows: dict[str, Any], **changes: Any) -> None:
    content = {"schema": 1, "host": host.describe(), "rows": list(rows), "skipped": [], **changes}
    files.write_json(run.results / "benchmark.json", content)


def make(path: Path, validation: Any = 0.1) -> Made:
    run = tiny.run(path)
    recipe = tiny.recipe(validation=validation).to_dict()
    ancestor = onnx_making.write(run.artifact_path("onnx"), onnx_making.network(seed=0), recipe=recipe)
    born = {"parent": ancestor.id, "ancestor": ancestor.id, "recipe": recipe}
    int8 = onnx_making.write(run.artifact_path("onnx-int8"), onnx_making.network(seed=3), "onnx-int8", **born)
    parts, accuracy = [], {}
    for seed, name in enumerate(("train", "validation", "test")):
        images = tiny.images(IMAGES, seed)
        labels = answers(ancestor, images)
        labels[:3] = range(3)  # so that every class is there, whatever the network says
        ids = np.array([f"{name}/{number}" for number in range(IMAGES)])
        parts.append(Dataset(images, labels.astype(np.int64), ids, tiny.CLASSES))
        accuracy[name] = float((answers(int8, images) == labels).mean())
    prove(int8)
    measure(run, row(ancestor, 1000), row(int8, 4000))
    return Made(run, ancestor, int8, Splits(*parts), accuracy)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "run")


def test_the_fastest_wins_and_is_written(made: Made) -> None:
    result = made.best()
    assert files.read_json(made.run.results / "best.json") == result
    assert {key: result[key] for key in ("schema", "objective", "candidate", "artifact", "artifact_id")} == {
        "schema": 1, "objective": "throughput", "candidate": INT8, "artifact": "artifacts/onnx-int8",
        "artifact_id": made.int8.id,
    }  # fmt: skip
    assert {key: result[key] for key in ("runtime", "precision", "threads", "size_bytes", "throughput_per_s")} == {
        "runtime": "onnxruntime", "precision": "int8", "threads": 2, "size_bytes": made.int8.size_bytes,
        "throughput_per_s": 4000,
    }  # fmt: skip
    assert result["latency_ms_p50"] == 0.25
    assert result["limits"] == dict.fromkeys(
        ("max_latency_ms", "min_accuracy", "max_accuracy_drop_points", "max_size_mb")
    )
    assert result["validation_accuracy"] == made.int8_accuracy["validation"]
    assert result["test_accuracy"] == made.int8_accuracy["test"]
    low, high = result["test_accuracy_interval"]
    assert low < result["test_accuracy"] < high
    assert result["why"].startswith("the highest throughput: 4,000 images/s; 4.00 times that of onnx@onnxruntime")
    told = {entry["candidate"]: entry["misses"] for entry in result["runners_up"]}
    assert told[ORT] == "its throughput is 75% lower"
    assert result["warnings"] == []
    assert made.run.read()["verbs"][-1]["verb"] == "best"


def test_accuracies_are_predicted_once_and_kept(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made.best(max_accuracy_drop=99)
    kept = Artifact.open(made.int8.path).evidence()[
        f"accuracy:validation:{made.splits.part('validation').fingerprint[:12]}"
    ]
    assert kept[INT8]["accuracy"] == made.int8_accuracy["validation"]
    assert kept[INT8]["images"] == IMAGES

    def no_worker(*_arguments: Any) -> None:
        raise AssertionError("nothing has to be predicted again")

    monkeypatch.setattr(worker, "call", no_worker)
    assert made.best(max_accuracy_drop=99) == before


def test_the_proofs_figures_are_taken_where_they_are_of_these_images(made: Made) -> None:
    prove(made.int8, accuracy=0.7, images=IMAGES, fingerprint=made.splits.test.fingerprint)
    assert made.best()["test_accuracy"] == 0.7


def test_accuracy_decides_on_validation(made: Made) -> None:
    """The trained model is nearly always right, the other network is not."""
    result = made.best(max_accuracy_drop=0.5)
    assert result["candidate"] == ORT
    assert result["judged_on"] == "validation"
    told = {entry["candidate"]: entry for entry in result["runners_up"]}
    assert "validation accuracy drops by" in told[INT8]["misses"]
    assert told[INT8]["validation_accuracy"] == made.int8_accuracy["validation"]


def test_nothing_within_the_limits(made: Made) -> None:
    with pytest.raises(CheckFailed) as caught:
        made.best(max_latency_ms=0.1)
    assert str(caught.value) == (
        "nothing is within the limits; the nearest is onnx-int8@onnxruntime: latency 0.250 ms is 0.150 ms above the "
        "limit of 0.1 ms"
    )
    assert not (made.run.results / "best.json").exists()
    result = attempt(made.run.path, max_latency_ms=0.1, data=made.splits)
    assert (result["candidate"], result["nearest"]) == (None, INT8)


def test_where_nothing_was_held_out_test_judges_and_is_said_to(tmp_path: Path) -> None:
    made = make(tmp_path / "run", validation="none")
    result = made.best(max_accuracy_drop=0.5)
    assert (result["judged_on"], result["validation_accuracy"]) == ("test", None)
    assert "held nothing out" in result["warnings"][0]
    assert made.best()["warnings"] == [], "without limits on accuracy it decides nothing"


@pytest.mark.parametrize("name", ["validation", "test"])
def test_images_that_are_not_the_runs(made: Made, name: str) -> None:
    """Most of another validation part was trained on, and test figures of other images are not this run's."""
    fingerprints = {key: made.splits.part(key).fingerprint for key in ("validation", "test")}
    made.run.update(data={"source": "memory", "fingerprints": fingerprints})
    assert made.best()["validation_accuracy"] == made.int8_accuracy["validation"]
    before = (made.run.results / "best.json").read_bytes()
    made.run.update(data={"source": "memory", "fingerprints": {**fingerprints, name: "other"}})
    with pytest.raises(CheckFailed, match=f"the {name} images in memory are not those of the run"):
        made.best()
    assert (made.run.results / "best.json").read_bytes() == before


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("failed", "parity failed: it rained"), ("inconclusive", "parity is inconclusive: it rained")],
)
def test_only_what_passed_parity(made: Made, verdict: str, words: str) -> None:
    prove(made.int8, verdict)
    result = made.best()
    assert result["candidate"] == ORT
    assert {entry["candidate"]: entry["misses"] for entry in result["runners_up"]}[INT8] == words


@pytest.mark.parametrize("changed", [{"artifact_id": "another of the same size"}, {"size_bytes": 1}])
def test_what_cannot_be_judged_says_why(made: Made, changed: dict[str, Any]) -> None:
    reasons = [{"candidate": ORT, "reason": "it was busy"}]
    measure(made.run, row(made.int8, 4000, **changed), skipped=reasons)
    with pytest.raises(CheckFailed, match="nothing is within the limits; no candidate is both measured and proved"):
        made.best()
    other = tiny.artifact(made.run.artifact_path("onnx-fp16"), "onnx-fp16", parent=made.ancestor.id, ancestor="old")
    prove(other)
    told = {entry["candidate"]: entry["misses"] for entry in attempt(made.run.path, data=made.splits)["runners_up"]}
    assert told[ORT] == "not measured: it was busy"
    assert told[INT8] == "exported again after it was measured; run `peregrine benchmark` again"
    assert told["onnx-fp16@onnxruntime"] == "exported from an earlier model; run `peregrine export` again"
    assert told["onnx@openvino"] == "not proved on this machine; see `peregrine export`"


def test_a_candidate_that_cannot_be_run_any_more(made: Made) -> None:
    """Its accuracy is not known, so it is not within a limit on it, and nobody else is held up."""
    broken = tiny.artifact(
        made.run.artifact_path("onnx-int8"), "onnx-int8", parent=made.ancestor.id, ancestor=made.ancestor.id
    )
    prove(broken)
    measure(made.run, row(made.ancestor, 1000), row(broken, 4000))
    result = made.best(min_accuracy=0.01)
    assert result["candidate"] == ORT
    told = {entry["candidate"]: entry["misses"] for entry in result["runners_up"]}
    assert told[INT8] == "its validation accuracy could not be found out"
    assert result["warnings"][0].startswith("the validation accuracy of onnx-int8@onnxruntime is not known: ")


def test_another_machine_and_a_busy_one_are_told(made: Made) -> None:
    there = {**host.describe(), "processor": "Z80", "threads": 1}
    measure(made.run, row(made.ancestor, 1000), host=there, noise={"busy": True, "messages": ["load 7.5"]})
    other, busy = made.best()["warnings"]
    assert other.startswith("it was measured on another machine (Z80, threads: 1; here: ")
    assert busy == "the machine was busy while it measured: load 7.5"


def test_what_best_needs(made: Made) -> None:
    with pytest.raises(UsageError, match=r"among all candidates of a run; .* is one artifact; name .*run"):
        peregrine.best(made.int8.path, data=made.splits)
    path = made.run.results / "benchmark.json"
    path.write_text("[]")
    with pytest.raises(DamagedFile, match="not a benchmark of schema 1; run: peregrine benchmark"):
        made.best()
    path.unlink()
    with pytest.raises(UsageError, match=r"benchmark.json is missing; run: peregrine benchmark .*run"):
        made.best()
    with pytest.raises(UsageError, match="got 'speed'"):
        made.best(objective="speed")
    with pytest.raises(UsageError, match="--min-accuracy"):
        made.best(min_accuracy=math.nan)


def test_predict_uses_it(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="peregrine"):
        assert answering(made.run.path).key != INT8
        made.best()
        assert answering(made.run.path).key == INT8
    assert "onnx-int8@onnxruntime answers, which `peregrine best` chose" in caplog.messages
