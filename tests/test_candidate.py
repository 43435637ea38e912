"""The ways to run an Artifact."""

import json
from pathlib import Path

import pytest

import tiny
from peregrine import host
from peregrine.candidate import Candidate, candidates, default_candidate
from peregrine.errors import DamagedFile, UsageError


def test_the_default_one(tmp_path: Path) -> None:
    artifact = tiny.artifact(tmp_path / "onnx")
    assert default_candidate(artifact) == next(candidates(artifact))
    assert default_candidate(artifact, "onnxruntime") == Candidate(
        artifact.path, "onnx", "onnxruntime", "cpu", "fp32", host.threads(), None
    )
    assert default_candidate(artifact).key == "onnx@onnxruntime"


def test_a_runtime_that_does_not_open_the_format(tmp_path: Path) -> None:
    artifact = tiny.artifact(tmp_path / "onnx")
    with pytest.raises(UsageError, match=r"^a onnx artifact is opened by onnxruntime, openvino; got 'keras'$"):
        default_candidate(artifact, "keras")


def test_to_a_worker_and_back(tmp_path: Path) -> None:
    candidate = tiny.fake_candidate(tiny.artifact(tmp_path / "onnx"), batch=8)
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate


def test_what_is_unusual_is_in_the_key(tmp_path: Path) -> None:
    candidate = default_candidate(tiny.artifact(tmp_path / "onnx"))
    unusual = tiny.replace(candidate, provider="cuda", precision="bf16", batch=8)
    assert unusual.key == "onnx@onnxruntime-cuda-bf16-batch8"


def test_opening_verifies_first(tmp_path: Path) -> None:
    artifact = tiny.artifact(tmp_path / "onnx")
    artifact.model_path.write_bytes(b"changed")
    with pytest.raises(DamagedFile, match=r"model\.onnx"):
        tiny.fake_candidate(artifact).open()
