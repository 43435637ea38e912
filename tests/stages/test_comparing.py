"""Comparing real models in real workers; the statistics themselves are in test_pairing.py."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import machine
import making
import peregrine
import tiny
from peregrine import files
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.errors import CheckFailed, DataError, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.evaluating import ancestor_answers
from peregrine.stages.target import Target
from photo_runs import pictures, run, write

CLASSES = tiny.CLASSES
BACKWARDS = CLASSES[::-1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and test images of each class."""
    folder = tmp_path_factory.mktemp("photos")
    return pictures(folder / "photos", seed=0)


def said(made: RunDirectory, data: Path) -> Any:
    """What a run's model answers on the test images, and the truth, both by name."""
    artifact = made.ancestor()
    test = peregrine.load_dataset(str(data), size=tiny.SIZE).test.in_class_order(artifact.manifest.class_names)
    names = np.asarray(test.class_names)
    with default_candidate(artifact).open() as runtime:
        return names[runtime.predict(test.images).argmax(1)], names[test.labels]


def test_two_runs(tmp_path: Path, photos: Path) -> None:
    before, after = run(tmp_path / "before", photos, 0), run(tmp_path / "after", photos, 3)
    result = peregrine.compare([before.path, after.path])
    json.dumps(result, allow_nan=False)
    assert (result["images"], result["split"], result["data"]) == (36, "test", str(photos))
    (old, truth), (new, _) = said(before, photos), said(after, photos)
    (comparison,) = result["comparisons"]
    assert (comparison["reference"], comparison["model"]) == (str(before.path), str(after.path))
    gain = (new == truth).astype(int) - (old == truth)
    assert comparison["difference_points"] == pytest.approx(100 * gain.mean())
    assert comparison["only_model_right"]["images"] == (gain == 1).sum()
    assert comparison["only_reference_right"]["images"] == (gain == -1).sum()
    assert comparison["agreement"] == pytest.approx((old == new).mean())
    first, second = result["models"]
    assert first["accuracy"] == pytest.approx((old == truth).mean())
    assert second["accuracy"] == pytest.approx((new == truth).mean())
    assert {key: first[key] for key in ("name", "candidate", "engine", "model", "recipe")} == {
        "name": str(before.path), "candidate": "onnx@onnxruntime", "engine": "tensorflow", "model": "cnn",
        "recipe": "tiny",
    }  # fmt: skip
    assert (first["training"], first["fastest"], result["warnings"]) == (None, None, [])
    assert len(list(before.cache.glob("answers-*.npz"))) == 1, "kept for proofs and the next comparison"


def test_classes_meet_by_name(tmp_path: Path, photos: Path) -> None:
    """The same network that counts its classes backwards says the same."""
    runs = [run(tmp_path / "a", photos), run(tmp_path / "b", photos, classes=BACKWARDS)]
    (comparison,) = peregrine.compare([each.path for each in runs])["comparisons"]
    assert (comparison["agreement"], comparison["difference_points"], comparison["mcnemar_p"]) == (1, 0, 1)


def test_answers_are_kept_by_the_order_of_the_images(tmp_path: Path, photos: Path) -> None:
    """Names such as a row's number stay where other images take their places."""
    target = Target.find(run(tmp_path / "a", photos).path)
    part = peregrine.load_dataset(str(photos), size=tiny.SIZE).test
    backwards = Dataset(part.images[::-1], part.labels[::-1], part.ids, part.class_names)
    answers = ancestor_answers(target, part)
    np.testing.assert_allclose(ancestor_answers(target, backwards), answers[::-1], atol=1e-6)


def test_artifacts_and_more_than_two(tmp_path: Path, photos: Path) -> None:
    made = run(tmp_path / "a", photos)
    ancestor = made.ancestor()
    child = {"format": "onnx-int8", "parent": ancestor.id, "ancestor": ancestor.id}
    write(made.artifact_path("onnx-int8"), 3, **child)
    alone = write(tmp_path / "alone", 3)
    result = peregrine.compare([made.path, made.artifact_path("onnx-int8"), alone])
    int8, same = result["comparisons"]
    assert [model["candidate"] for model in result["models"]] == [
        "onnx@onnxruntime", "onnx-int8@onnxruntime", "onnx@onnxruntime",
    ]  # fmt: skip
    assert {**int8, "model": ""} == {**same, "model": ""}
    assert len(list(made.cache.glob("answers-*.npz"))) == 1, "the trained model's alone"
    with pytest.raises(UsageError, match=r"none of .*alone, .*alone tells where its data is; give it with --data"):
        peregrine.compare([alone, alone.path])
    assert peregrine.compare([alone, alone], data=photos)["comparisons"][0]["agreement"] == 1


def test_other_images_are_refused(tmp_path: Path, photos: Path) -> None:
    others = pictures(tmp_path / "others", seed=1)
    runs = [run(tmp_path / "a", photos).path, run(tmp_path / "b", others).path]
    with pytest.raises(DataError) as caught:
        peregrine.compare(runs)
    assert str(caught.value).startswith(
        f"models are compared on the same images; the test images of {runs[1]} are not those of {photos} (fingerprints "
    )
    assert str(caught.value).endswith("name one data set for all with --data")
    assert peregrine.compare(runs, data=others)["images"] == 36


def test_the_same_images_elsewhere(tmp_path: Path, photos: Path) -> None:
    """A copy of the data has the same fingerprint, and so it is the same data."""
    copied = Path(shutil.copytree(photos, tmp_path / "copy"))
    runs = [run(tmp_path / "a", photos, 0), run(tmp_path / "b", copied, 3)]
    assert peregrine.compare([each.path for each in runs])["data"] == str(photos)


def test_other_validation_images_are_refused(tmp_path: Path, photos: Path) -> None:
    """Two seeds hold out different images."""
    runs = [run(tmp_path / str(seed), photos, validation=0.3, seed=seed).path for seed in range(2)]
    with pytest.raises(DataError, match=r"has 12 validation images and .* 12, and they are not the same; compare on"):
        peregrine.compare(runs, split="validation")
    assert peregrine.compare(runs)["images"] == 36


def test_a_class_that_a_model_does_not_know(tmp_path: Path, photos: Path) -> None:
    more = pictures(tmp_path / "more", seed=0, classes=(*CLASSES, "yak"))
    made = run(tmp_path / "a", photos)
    with pytest.raises(DataError, match=r"a cannot be judged on the images of .*more: the model knows .*others: yak"):
        peregrine.compare([made.path, made.path], data=more)


def test_data_that_changed(tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos", seed=0)
    made = run(tmp_path / "a", data)
    (data / "test" / "ant" / "00.png").unlink()
    with pytest.raises(CheckFailed, match="are not those of the run any more"):
        peregrine.compare([made.path, made.path])


def test_cost_stands_beside_it_with_its_machine(tmp_path: Path, photos: Path) -> None:
    runs = [run(tmp_path / "a", photos), run(tmp_path / "b", photos, 3)]
    for made, threads in zip(runs, (2, 64), strict=True):
        machine = {"processor": "Z80", "threads": threads}
        summary = {"epochs": 5, "training_seconds": 12.5, "images_per_s": 900.0, "host": machine}
        files.write_json(made.results / "training_summary.json", summary)
        rows = [
            {"candidate": key, "throughput_per_s": per_s, "latency_ms_p50": 1.0, "size_bytes": 10}
            for key, per_s in (("onnx@onnxruntime", 1000.0), ("onnx-int8@openvino", 4000.0))
        ]
        files.write_json(made.results / "benchmark.json", {"schema": 1, "host": machine, "rows": rows})
        verb = {"verb": "train", "seconds": 20.0}
        made.update(verbs=[verb, {"verb": "train", "seconds": None}, {**verb, "verb": "export"}, verb])
    result = peregrine.compare([runs[0].path, runs[1].artifact_path("onnx")])
    first, second = result["models"]
    assert first["training"] == {
        "epochs": 5, "training_seconds": 12.5, "images_per_s": 900.0, "train_images": None, "parameters": None,
        "precision": None, "total_seconds": 40.0, "machine": "Z80, threads: 2",
    }  # fmt: skip
    assert first["fastest"]["candidate"] == "onnx-int8@openvino", "of a run the fastest"
    assert second["fastest"]["candidate"] == "onnx@onnxruntime", "of an Artifact its own"
    where = f"{runs[0].path} on Z80, threads: 2; {runs[1].artifact_path('onnx')} on Z80, threads: 64"
    assert result["warnings"] == [
        f"they were trained on different machines, so their seconds do not compare: {where}",
        f"they were measured on different machines, so their throughputs do not compare: {where}",
    ]


def test_a_picture_of_two(tmp_path: Path, photos: Path) -> None:
    made = run(tmp_path / "a", photos)
    drawn = tmp_path / "pictures" / "changes.png"
    peregrine.compare([made.path, made.path], picture=drawn)
    with Image.open(drawn) as picture:
        assert picture.format == "PNG"
    with pytest.raises(UsageError, match="between two models; got 3; leave it out"):
        peregrine.compare([made.path] * 3, picture=drawn)


def test_runs_that_can_only_be_read(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in them or beside them, not even a log."""
    made = run(tmp_path / "runs" / "a", photos)
    write(tmp_path / "runs" / "alone", 3)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with machine.read_only(tmp_path / "runs"):
        result = peregrine.compare([made.path, tmp_path / "runs" / "alone"], data=photos)
    assert result["images"] == 36
    assert not list((tmp_path / "temporary").iterdir())


def test_one_alone() -> None:
    with pytest.raises(UsageError, match="compare takes two runs or artifacts, or more; got 1"):
        peregrine.compare(["somewhere"])


def test_labels_that_differ_are_told(tmp_path: Path) -> None:
    """Arrays of one's own may give an image another class for each caller; the names of images do not save them."""
    from peregrine.stages.comparing import _places

    images, ids = making.images(2, tiny.SIZE), np.array(["one", "two"])
    one, two = (peregrine.Dataset(images, np.array(labels), ids, CLASSES) for labels in ([0, 1], [0, 2]))
    with pytest.raises(DataError, match=r"two is 'bee' for a and 'cow' for b; compare on --split test"):
        _places(one, two, "a", "b", "test")
    turned = two.subset([1, 0])
    assert _places(two, turned, "a", "b", "test").tolist() == [1, 0]
