"""What was written is what is opened, and nothing else is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from machine import python
from peregrine import artifact as module
from peregrine import formats
from peregrine.artifact import ANCESTOR, Artifact, Golden, golden_images
from peregrine.dataset import Dataset
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.formats import FORMATS, Format, find_format


@pytest.fixture
def written(tmp_path: Path) -> Artifact:
    return tiny.artifact(tmp_path / "onnx")


def reseal(path: Path, change: dict[str, Any]) -> None:
    """Change the manifest as somebody would who knows how the seals are made."""
    manifest = {**json.loads((path / "manifest.json").read_bytes()), **change}
    content = json.dumps(manifest).encode()
    (path / "manifest.json").write_bytes(content)
    identity = module._sha256(content)
    (path / "manifest.sha256").write_text(identity + "\n")
    module._write_evidence(path, identity, [module._sha256((path / "golden.npz").read_bytes())], {})


def test_what_was_written_is_opened(written: Artifact) -> None:
    again = Artifact.open(str(written.path))
    assert again == written
    assert again.format.name == "onnx"
    assert again.model_path.read_bytes() == b"the bytes of a model"
    assert again.size_bytes == 20
    assert again.manifest.input == {"name": "images", "dtype": "uint8", "shape": ["N", 8, 8, 3]}
    assert again.manifest.class_names == tiny.CLASSES
    assert again.manifest.precision == "fp32"
    assert again.manifest.notes == {"opset": 20}
    assert (written.path / "manifest.sha256").read_text() == f"{again.id}\n"
    assert again.evidence() == {}
    golden = again.golden()
    assert np.array_equal(golden.images, tiny.images(2))
    assert np.array_equal(golden.answers[ANCESTOR], tiny.answers(2))
    assert sorted(entry.name for entry in written.path.iterdir()) == [
        "evidence.json",
        "golden.npz",
        "manifest.json",
        "manifest.sha256",
        "model.onnx",
    ]


def test_a_conversion_inherits(written: Artifact, tmp_path: Path) -> None:
    assert written.root_id == written.id
    child = tiny.artifact(tmp_path / "child", **written.inherited())
    grandchild = tiny.artifact(tmp_path / "grandchild", **child.inherited())
    assert (child.manifest.parent, child.root_id) == (written.id, written.id)
    assert (grandchild.manifest.parent, grandchild.root_id) == (child.id, written.id)
    assert grandchild.manifest.recipe == written.manifest.recipe


def test_what_is_learned_is_kept(written: Artifact) -> None:
    identity = written.id
    written.learn("accuracy", {"test": 0.9})
    written.learn("parity", {"verdict": "passed"}, {"onnx@onnxruntime": tiny.answers(2, seed=1)})
    written.learn("accuracy", {"test": 0.8})
    again = Artifact.open(written.path)
    assert again.id == identity
    assert again.evidence() == {"accuracy": {"test": 0.8}, "parity": {"verdict": "passed"}}
    assert set(again.golden().answers) == {ANCESTOR, "onnx@onnxruntime"}
    assert np.array_equal(again.golden().answers["onnx@onnxruntime"], tiny.answers(2, seed=1))
    assert np.array_equal(again.golden().images, tiny.images(2))


LEARN_AND_DIE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from peregrine import files
from peregrine.artifact import Artifact

path, survives = Path(sys.argv[1]), int(sys.argv[2])
write, count = files.write_bytes, 0
def counted(*arguments):
    global count
    if count == survives:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    write(*arguments)
files.write_bytes = counted
Artifact.open(path).learn("parity", "passed", {"new": np.ones((2, 3), np.float32) / 3})
"""


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_killed_while_learning_it_still_opens(written: Artifact, writes: int) -> None:
    """Golden images and evidence are two files; no moment between their writes may look like damage."""
    assert python(LEARN_AND_DIE, written.path, writes).returncode == (-9 if writes < 3 else 0)
    again = Artifact.open(written.path)
    assert again.evidence() == ({"parity": "passed"} if writes == 3 else {})
    again.learn("parity", "passed", {"new": tiny.answers(2)})
    assert set(Artifact.open(written.path).golden().answers) == {ANCESTOR, "new"}


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    golden = Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    written = tiny.artifact(tmp_path / "onnx", content=b"model", golden=golden)
    written.learn("accuracy", {"test": 0.9})
    for path in sorted(written.path.iterdir()):
        content = path.read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(DamagedFile) as caught:
                Artifact.open(written.path)
            assert path.name in str(caught.value), position
        path.write_bytes(content)
    assert Artifact.open(written.path) == written


@pytest.mark.parametrize("name", ["evidence.json", "golden.npz", "manifest.sha256", "model.onnx"])
@pytest.mark.parametrize("how", ["deleted", "emptied", "truncated", "extended", "a folder"])
def test_every_file_has_to_be_there_and_whole(written: Artifact, name: str, how: str) -> None:
    path = written.path / name
    content = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "deleted":
        path.write_bytes({"emptied": b"", "truncated": content[:-1], "extended": content + b"\n"}[how])
    with pytest.raises(DamagedFile, match=name):
        Artifact.open(written.path)


def test_without_a_manifest_there_is_no_artifact(written: Artifact) -> None:
    (written.path / "manifest.json").unlink()
    message = f"^an artifact is a folder with a manifest.json; found none at {written.path}$"
    with pytest.raises(UsageError, match=message):
        Artifact.open(written.path)
    with pytest.raises(UsageError, match="found none at"):
        Artifact.open(written.path / "model.onnx")


@pytest.mark.parametrize("content", ["[]", "5", '"text"', "null", "{}", '{"seal": 1}', '{"a": NaN}'])
def test_evidence_that_is_something_else(written: Artifact, content: str) -> None:
    (written.path / "evidence.json").write_text(content)
    with pytest.raises(
        DamagedFile, match=r"evidence\.json is missing, was changed or belongs to another artifact; exp"
    ):
        Artifact.open(written.path)


def test_evidence_belongs_to_its_artifact(written: Artifact, tmp_path: Path) -> None:
    better = tiny.artifact(tmp_path / "better", content=b"another model")
    better.learn("parity", {"verdict": "passed"})
    shutil.copy(better.path / "evidence.json", written.path)
    with pytest.raises(DamagedFile, match=f"^{written.path}/evidence.json .* belongs to another artifact"):
        Artifact.open(written.path)


def test_golden_images_of_another_artifact(written: Artifact, tmp_path: Path) -> None:
    other = tiny.artifact(tmp_path / "other", golden=Golden(tiny.images(3), {ANCESTOR: tiny.answers(3)}))
    shutil.copy(other.path / "golden.npz", written.path)
    with pytest.raises(
        DamagedFile, match=f"^{written.path}/golden.npz is missing or was changed; export the model again$"
    ):
        Artifact.open(written.path)


def test_a_manifest_of_another_schema(written: Artifact) -> None:
    reseal(written.path, {"schema": 2})
    with pytest.raises(
        DamagedFile, match=r"manifest\.json is not a manifest of schema 1 \(schema: Input should be 1\); "
    ):
        Artifact.open(written.path)
    reseal(written.path, {"schema": 1, "surprise": True})
    with pytest.raises(DamagedFile, match=r"is not a manifest of schema 1 \(surprise: Extra inputs"):
        Artifact.open(written.path)


def test_a_format_that_this_version_does_not_know(written: Artifact) -> None:
    reseal(written.path, {"format": "onx"})
    with pytest.raises(UsageError, match=r"a format is one of .*; got 'onx'; did you mean 'onnx'?"):
        Artifact.open(written.path)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../../outside"])
def test_a_manifest_cannot_reach_outside(written: Artifact, name: str) -> None:
    (written.path.parent / "outside").write_bytes(b"secret")
    record = {"size_bytes": 6, "sha256": module._sha256(b"secret")}
    own = written.manifest.files["model.onnx"].model_dump()
    reseal(written.path, {"files": {"model.onnx": own, name: record}})
    with pytest.raises(DamagedFile, match=f"manifest.json lists '{name}', which is outside; export the model again"):
        Artifact.open(written.path)


def test_a_model_that_the_manifest_does_not_vouch_for(written: Artifact) -> None:
    reseal(written.path, {"files": {}})
    with pytest.raises(DamagedFile, match=r"model\.onnx is not in the manifest; delete it or export the model again$"):
        Artifact.open(written.path)


def test_what_lies_beside_the_model_does_no_harm(written: Artifact) -> None:
    """No library is pointed at it; a `.DS_Store` or a note of one's own must not make a model unusable."""
    (written.path / "notes.txt").write_text("the good one")
    (written.path / "folder").mkdir()
    assert Artifact.open(written.path) == written


def test_a_link_to_the_right_bytes_is_fine(written: Artifact, tmp_path: Path) -> None:
    """Stores of large files replace them by links; what counts are the bytes."""
    (written.path / "model.onnx").rename(tmp_path / "stored")
    (written.path / "model.onnx").symlink_to(tmp_path / "stored")
    assert Artifact.open(written.path) == written
    (tmp_path / "stored").write_bytes(b"the bytes of a mOdel")
    with pytest.raises(DamagedFile, match=r"model\.onnx was changed: its SHA-256 differs from the manifest's; export"):
        Artifact.open(written.path)


@pytest.fixture
def folder_format(monkeypatch: pytest.MonkeyPatch) -> Format:
    """A format whose model is a folder, as TensorFlow's SavedModel is."""
    format = replace(FORMATS["onnx"], name="saved", file="saved_model")
    monkeypatch.setitem(formats.FORMATS, "saved", format)
    return format


@pytest.mark.parametrize("intruder", ["variables/more", "extra", "linked/"])
def test_nothing_joins_a_model_that_is_a_folder(folder_format: Format, tmp_path: Path, intruder: str) -> None:
    path = tmp_path / "saved"
    with Artifact.write(
        path, format="saved", like=tiny.like(), golden=Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    ) as folder:
        (folder / "saved_model" / "variables").mkdir(parents=True)
        (folder / "saved_model" / "graph.pb").write_bytes(b"graph")
        (folder / "saved_model" / "variables" / "data").write_bytes(b"data")
    assert set(Artifact.open(path).manifest.files) == {"saved_model/graph.pb", "saved_model/variables/data"}
    joined = path / "saved_model" / intruder
    if intruder.endswith("/"):
        joined.symlink_to(tmp_path, target_is_directory=True)
    else:
        joined.write_bytes(b"")
    with pytest.raises(DamagedFile, match=f"{joined} is not in the manifest; delete it or export the model again$"):
        Artifact.open(path)


def test_a_conversion_that_writes_nothing_is_no_artifact(tmp_path: Path) -> None:
    golden = Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    path = tmp_path / "onnx"
    message = f"^an artifact of format onnx holds model.onnx; none was written to {path}$"
    with (
        pytest.raises(CheckFailed, match=message),
        Artifact.write(path, format="onnx", like=tiny.like(), golden=golden),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_fails_leaves_the_artifact_before_it(written: Artifact) -> None:
    golden = Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    with (
        pytest.raises(RuntimeError),
        Artifact.write(written.path, format="onnx", like=tiny.like(), golden=golden) as folder,
    ):
        fail_after_writing(folder / "model.onnx")
    assert Artifact.open(written.path) == written
    assert list(written.path.parent.iterdir()) == [written.path]


def test_unknown_formats_get_a_suggestion() -> None:
    assert find_format("onnx").file == "model.onnx"
    with pytest.raises(UsageError, match=r"^a format is one of keras, .*; got 'kears'; did you mean 'keras'?"):
        find_format("kears")


def fail_after_writing(path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError


def dataset(labels: list[int]) -> Dataset:
    pixels = np.zeros((len(labels), 4, 4, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels))
    names = tuple(f"class {label}" for label in range(max(labels) + 1))
    return Dataset(pixels, np.array(labels, np.int64), np.array([str(i) for i in range(len(labels))]), names)


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ([0] * 20 + [1], [*range(15), 20]),
        ([2, 1, 0], [0, 1, 2]),
        (list(range(10)) * 3, list(range(16))),
        (list(range(30)), list(range(16))),
    ],
)
def test_golden_images_cover_the_classes(labels: list[int], chosen: list[int]) -> None:
    assert golden_images(dataset(labels))[:, 0, 0, 0].tolist() == chosen
