"""What is said, kept and refused of outcomes that are given; whole exports are in test_pipeline.py."""

import logging
from pathlib import Path
from typing import Any

import pytest

import tiny
from peregrine import files
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, ParityFailed, PeregrineError
from peregrine.rundir import RunDirectory
from peregrine.stages.outcomes import Export, record, refuse, warn_of_slow


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """With an ancestor that nothing has to open."""
    made = tiny.run(tmp_path / "run")
    tiny.artifact(made.artifact_path("torch"), "torch")
    return made


def outcome(format: str, status: str = "proved", **changes: Any) -> Export:
    return Export(format, status, "it rained", Path("there"), changes.pop("parity", []), **changes)


ROW = {"candidate": "onnx@onnxruntime", "verdict": "failed"}


@pytest.mark.parametrize(
    ("wrong", "named", "everything"),
    [
        (outcome("onnx", "failed"), CheckFailed, CheckFailed),
        (outcome("onnx", "failed", parity=[ROW]), ParityFailed, ParityFailed),
        (outcome("onnx-int8", "failed", parity=[ROW]), ParityFailed, None),
        (outcome("onnx-int8", "failed", batch=8), CheckFailed, None),
        (outcome("openvino", "skipped"), MissingDependency, None),
        (outcome("tensorrt", "unproved"), MissingDevice, None),
        (outcome("onnx-int8", "inconclusive"), None, None),
    ],
)
def test_what_is_refused(
    wrong: Export, named: type[PeregrineError] | None, everything: type[PeregrineError] | None
) -> None:
    """Of everything that can be made, only an fp32 format has to succeed."""
    for expected, all_formats in ((named, False), (everything, True)):
        outcomes = [outcome("onnx-fp16"), wrong]
        if expected is None:
            refuse(outcomes, everything=all_formats)
            continue
        with pytest.raises(expected, match="it rained") as caught:
            refuse(outcomes, everything=all_formats)
        assert type(caught.value) is expected


def parity(run: RunDirectory, seconds: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of parity.json, of Candidates and how long they took."""
    rows = []
    for key, took in seconds.items():
        format, _, runtime = key.partition("@")
        precision = "int8" if "int8" in format else "bf16" if runtime.endswith("bf16") else "fp32"
        rows.append({
            "candidate": key, "format": format, "runtime": runtime.removesuffix("-bf16"), "precision": precision,
            "images": 10_000, "predict_seconds": took,
        })  # fmt: skip
    files.write_json(run.results / "parity.json", {"rows": rows, "skipped": []})
    return rows


@pytest.mark.parametrize(
    ("key", "seconds", "words"),
    [
        ("onnx-int8@onnxruntime", 7.0, "than onnx@onnxruntime: 7.0 s and 4.0 s for 10,000 images; see `peregrine ben"),
        ("onnx-int8@openvino", 7.0, "than onnx@openvino: 7.0 s and 3.0 s for 10,000 images"),
        ("openvino-int8@openvino", 3.6, "than onnx@openvino: 3.6 s and 3.0 s for 10,000 images"),
        ("onnx@openvino-bf16", 9.0, None),  # by what it is compared with is the file's own precision
        ("onnx-int8@onnxruntime", 4.3, None),  # chance
        ("onnx-int8@openvino", 1.0, None),
    ],
)
def test_int8_that_does_not_pay_is_told(
    run: RunDirectory, caplog: pytest.LogCaptureFixture, key: str, seconds: float, words: str | None
) -> None:
    rows = parity(run, {"onnx@onnxruntime": 4.0, "onnx@openvino": 3.0, key: seconds})
    with caplog.at_level(logging.WARNING, logger="peregrine"):
        warn_of_slow(run, [outcome(rows[-1]["format"], parity=[rows[-1]])])
    if words is None:
        assert caplog.messages == []
        return
    (message,) = caplog.messages
    assert message.startswith(f"{key} is slower here {words}")


def test_a_static_batch_keeps_the_rows_of_the_other(run: RunDirectory) -> None:
    """Whichever of the two is exported again."""
    free, static = ({"format": "onnx", "candidate": key, "batch": batch} for key, batch in (("a", None), ("b", 8)))
    tests = tiny_dataset()
    for outcomes in (
        [outcome("onnx", parity=[free]), outcome("openvino", "skipped")],
        [outcome("onnx", parity=[static], batch=8), outcome("openvino", "skipped", batch=8)],
        [outcome("onnx", parity=[{**free, "new": True}])],
    ):
        record(run, tests, outcomes)
    written = files.read_json(run.results / "parity.json")
    assert written["rows"] == [static, {**free, "new": True}]
    assert [(entry["format"], entry["batch"]) for entry in written["skipped"]] == [("openvino", None), ("openvino", 8)]


def tiny_dataset() -> Any:
    import small_runs

    return small_runs.patterns(4, 0)
