"""What `run` decides: which formats it exports unasked, and whether it failed; whole runs are in test_pipeline.py."""

from pathlib import Path

import pytest

from peregrine import host
from peregrine.errors import CheckFailed, ParityFailed
from peregrine.export.routes import reachable
from peregrine.formats import FORMATS
from peregrine.host import Gpu
from peregrine.stages.outcomes import Export
from peregrine.stages.pipeline import FAST_ON_CPU, FAST_ON_GPU, RunSummary, refuse, winners


def test_a_processor_gets_the_formats_for_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: None)
    assert winners(reachable("torch")) == ["onnx", "onnx-int8", "openvino-int8"]
    assert winners(["keras"]) == []


def test_a_gpu_gets_engines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: Gpu("Some GPU", "8.9"))
    assert set(winners(reachable("torch"))) == {*FAST_ON_CPU, *FAST_ON_GPU}
    assert FORMATS.keys() >= {*FAST_ON_CPU, *FAST_ON_GPU}


def summary(parity: str, error: str) -> RunSummary:
    exports = [Export("onnx", parity, "other answers", None, [{}])]
    skipped = [{"candidate": "openvino@openvino", "reason": "openvino@openvino is missing something", "error": error}]
    return RunSummary(Path("run"), {}, None, exports, [], {"skipped": skipped}, None, None)


def test_a_candidate_that_cheats_when_it_is_measured_fails_the_run() -> None:
    with pytest.raises(CheckFailed, match=r"^openvino@openvino is missing something$"):
        refuse(summary("proved", "CheckFailed"))
    refuse(summary("proved", "MissingDependency"))


def test_an_export_that_fails_its_proof_comes_first() -> None:
    with pytest.raises(ParityFailed, match=r"^onnx does not predict what the trained model predicts: other answers$"):
        refuse(summary("failed", "CheckFailed"))
