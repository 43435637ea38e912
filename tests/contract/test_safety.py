"""Every byte of an Artifact counts: whichever is changed, it is refused before any library sees one of them.

What is small is a real model. Of the other formats, whose smallest files may be large, the content is noise: what is
verified are bytes, and nothing has to understand them.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from peregrine import catalog
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.candidate import default_candidate
from peregrine.errors import DamagedFile
from peregrine.export.base import convert_task
from peregrine.formats import FORMATS, Format

LARGEST = 64 * 1024
NOISE = np.random.default_rng(0).bytes(400)


def real_keras(path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the extra tensorflow is not installed")
    import keras_ancestor

    keras_ancestor.write(path, 8, widths=[2], dense=[2])


def real_h5(path: Path) -> None:
    real_keras(path.with_name("source"))
    convert_task("keras_to_h5", str(path.with_name("source")), str(path), "h5")


def real_savedmodel(path: Path) -> None:
    real_keras(path.with_name("source"))
    convert_task("keras_to_savedmodel", str(path.with_name("source")), str(path), "savedmodel")


def real_tflite(path: Path) -> None:
    real_keras(path.with_name("source"))
    convert_task("keras_to_tflite", str(path.with_name("source")), str(path), "tflite")


def real_torch(path: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    import torch_ancestor

    torch_ancestor.write(path, widths=[2, 2], whitening=2)


def real_onnx(path: Path) -> None:
    real_torch(path.with_name("source"))
    convert_task("torch_to_onnx", str(path.with_name("source")), str(path), "onnx")


def noise(path: Path, format: Format) -> None:
    """The model's file with a sidecar, or its folder with files in it."""
    golden = Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    with Artifact.write(path, format=format.name, like=tiny.like(), golden=golden) as folder:
        model = folder / format.file
        if model.suffix:
            model.write_bytes(NOISE)
            model.with_suffix(".bin").write_bytes(NOISE[:100])
        else:
            (model / "variables").mkdir(parents=True)
            (model / "saved_model.pb").write_bytes(NOISE)
            (model / "variables" / "variables.index").write_bytes(NOISE[:100])


REAL = {
    "keras": real_keras,
    "h5": real_h5,
    "savedmodel": real_savedmodel,
    "tflite": real_tflite,
    "torch": real_torch,
    "onnx": real_onnx,
}
MARKS = {
    name: [pytest.mark.torch if name in ("torch", "onnx") else pytest.mark.tensorflow]
    for name in REAL
}  # fmt: skip


@pytest.mark.parametrize("format", [pytest.param(name, marks=MARKS.get(name, [])) for name in FORMATS])
def test_every_flipped_byte_is_refused(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / format
    REAL.get(format, lambda path: noise(path, FORMATS[format]))(path)
    written = Artifact.open(path)
    written.learn("parity", {"verdict": "passed"}, {"some@candidate": written.golden().answers[ANCESTOR]})
    parts = sorted(part for part in path.rglob("*") if part.is_file())
    assert sum(part.stat().st_size for part in parts) <= LARGEST
    forbid_parsers(monkeypatch)
    refused = 0
    for part in parts:
        with part.open("r+b", buffering=0) as file:
            content = file.read()
            for position, byte in enumerate(content):
                put(file, position, byte ^ 1 << position % 8)
                with pytest.raises(DamagedFile, match=part.name):
                    Artifact.open(path)
                put(file, position, byte)
                refused += 1
    monkeypatch.undo()
    assert refused == sum(part.stat().st_size for part in parts)
    assert Artifact.open(path) == written


def put(file: Any, position: int, byte: int) -> None:
    file.seek(position)
    file.write(bytes([byte]))


def forbid_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime is loaded, no archive looked into but the one that was verified."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a parser was asked")

    monkeypatch.setattr(catalog, "load", refuse)
    for module, function in (("onnx", "load"), ("onnx", "load_from_string")):
        monkeypatch.setattr(f"{module}.{function}", refuse)
    opened = zipfile.ZipFile.__init__

    def open_verified(archive: Any, file: Any, *arguments: Any, **named: Any) -> None:
        assert not isinstance(file, str | Path), "only bytes that were verified"
        opened(archive, file, *arguments, **named)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", open_verified)


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in REAL])
def test_a_runtime_is_made_of_verified_bytes(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a Candidate verifies before the runtime's class is called."""
    path = tmp_path / format
    noise(path, FORMATS[format])
    candidate = default_candidate(Artifact.open(path))
    calls: list[Any] = []
    monkeypatch.setattr(catalog, "load", lambda kind, key: lambda *given: calls.append(given))
    candidate.open()
    assert len(calls) == 1
    part = next(part for part in path.rglob("*") if part.name not in ("manifest.json",) and part.is_file())
    part.write_bytes(part.read_bytes()[::-1])
    with pytest.raises(DamagedFile, match=part.name):
        candidate.open()
    assert len(calls) == 1
