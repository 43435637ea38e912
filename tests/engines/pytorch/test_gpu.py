"""What only a GPU can show. Skipped elsewhere, with the reason."""

import json
from pathlib import Path

import pytest

import peregrine

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.torch,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def test_digits_train_on_the_gpu(tmp_path: Path) -> None:
    splits = peregrine.load_dataset("digits")
    torch.cuda.reset_peak_memory_stats()
    artifact = peregrine.train(splits, "digits", run=tmp_path / "run")
    assert torch.cuda.max_memory_allocated() > 10_000_000, "the work was done somewhere else"
    assert peregrine.evaluate(artifact, data=splits)["accuracy"] > 0.95
    summary = json.loads((tmp_path / "run" / "results" / "training_summary.json").read_text())
    assert summary["precision"] in ("fp32", "bf16")


def test_the_export_agrees_with_what_the_gpu_trained(tmp_path: Path) -> None:
    splits = peregrine.load_dataset("digits")
    artifact = peregrine.train(splits, "digits", run=tmp_path / "run", changes={"epochs": 2})
    (export,) = peregrine.export(artifact, "onnx", data=splits)
    assert export.parity[0]["max_difference"] < 0.001
