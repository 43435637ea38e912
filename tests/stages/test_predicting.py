"""What `peregrine predict` answers, about files and about samples of the data, and what it refuses."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits

import making
import onnx_making
import tiny
from command import call, invoke, last_line
from peregrine.__main__ import run as command
from peregrine.artifact import Artifact
from peregrine.errors import CheckFailed
from peregrine.rundir import RunDirectory
from peregrine.stages.predicting import sample

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("pipeline")]
pytest.importorskip("torch", reason="the digits recipe trains with PyTorch")


def test_predict_files_as_table_csv_and_json(work: Path) -> None:
    folder = work / "scans"
    folder.mkdir()
    digits = load_digits()
    for index in range(12):
        pixels = np.repeat((digits.images[index] * 255 / 16).astype(np.uint8)[..., None], 3, 2)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    rows = last_line(call("predict", "digits", "scans", "--json", cwd=work))["predictions"]
    assert [Path(row["file"]).name for row in rows] == [f"{index:02d}.png" for index in range(12)]
    assert sum(row["class"] == str(digits.target[index]) for index, row in enumerate(rows)) >= 11
    table = list(csv.DictReader(io.StringIO(call("predict", "digits", "scans", "--csv", cwd=work))))
    assert [row["class"] for row in table] == [row["class"] for row in rows]
    assert "scans/00.png" in call("predict", "digits/artifacts/torch", "scans/00.png", cwd=work)


def test_predict_tells_bad_files_and_goes_on(work: Path) -> None:
    (work / "mixed").mkdir()
    (work / "mixed" / "a.jpg").write_text("no image")
    Image.new("RGB", (20, 30), "white").save(work / "mixed" / "b.jpg")
    rows = last_line(call("predict", "digits", "mixed", "--json", cwd=work, status=1))["predictions"]
    assert "not a JPEG" in rows[0]["error"]
    assert "class" in rows[1]
    call("predict", "digits", "no-such.png", cwd=work, status=2)


def test_predict_passes_hidden_files_and_folders_over(work: Path) -> None:
    folder = work / ".scans" / "here"  # a hidden one that is named is taken
    for place in (folder / ".thumbs", folder / "album.jpg", folder / "inner"):
        place.mkdir(parents=True)
    for name in ("._a.png", ".thumbs/t.png", "a.png", "inner/b.png"):
        Image.new("RGB", (8, 8), "white").save(folder / name)
    rows = last_line(call("predict", "digits", ".scans/here", ".scans/here/._a.png", "--json", cwd=work))["predictions"]
    assert [row["file"].removeprefix(".scans/here/") for row in rows] == ["a.png", "inner/b.png", "._a.png"]


@pytest.fixture
def shares_of_light(tmp_path: Path) -> Artifact:
    """Each colour's share of all light: for a black image 0 of 0."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "pixels"], ["light"], keepdims=0),
        helper.make_node("ReduceSum", ["light", "colours"], ["all"], keepdims=1),
        helper.make_node("Div", ["light", "all"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shares",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", tiny.SIZE, tiny.SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(axes), name) for name, axes in (("pixels", [1, 2]), ("colours", [1]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx_making.write(tmp_path / "onnx", model, class_names=("class 0", "class 1", "class 2"))


def test_an_answer_that_is_no_number_is_an_error(
    shares_of_light: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for colour in ("black", "red"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
    pictures = [str(tmp_path / name) for name in ("black.png", "red.png")]
    assert command(["predict", str(shares_of_light.path), *pictures, "--json"]) == 1
    said = capsys.readouterr()
    black, red = json.loads(said.out.splitlines()[-1])["predictions"]
    told = "the model answers with NaN or infinity, not with probabilities"
    assert black == {"file": pictures[0], "error": told}
    assert (red["class"], red["probability"]) == ("class 0", 1.0)
    assert f"1 of 2 files have no answer, the first is {pictures[0]}" in said.err
    test = making.splits(tiny.images(30), np.zeros((4, 8, 8, 3), np.uint8), classes=3)
    with pytest.raises(CheckFailed, match=rf"^{told}, for 4 of 4 images, the first is "):
        sample(shares_of_light, 4, data=test)


def test_predict_files_whose_names_are_no_text(work: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (work / "odd").mkdir()
    Image.new("RGB", (8, 8), "white").save(work / "odd" / "a.png")
    (work / "odd" / "a.png").rename(work / "odd" / name)
    utf8 = {"PYTHONIOENCODING": "utf-8"}  # strict, as in most people's terminals
    told = invoke("predict", "digits", "odd", "--json", cwd=work, **utf8)
    assert json.loads(told.stdout)["predictions"][0]["file"] == f"odd/{name}"
    arguments = [sys.executable, "-m", "peregrine", "predict", "digits", "odd", "--csv"]
    printed = subprocess.run(arguments, cwd=work, env={**os.environ, **utf8}, stdout=subprocess.PIPE, check=True).stdout
    assert b"\nodd/caf\xe9.png," in printed, "byte by byte"
    assert "odd/caf\\udce9.png" in invoke("predict", "digits", "odd", cwd=work, **utf8).stdout


def test_sample_draws_a_picture(work: Path) -> None:
    answer = last_line(call("predict", "digits", "--sample", "6", "--json", cwd=work))
    assert len(answer["predictions"]) == 6
    assert all({"true", "class", "probability"} <= row.keys() for row in answer["predictions"])
    with Image.open(work / answer["picture"]) as picture:
        assert picture.width > 400
    assert [len(row["top"]) for row in answer["predictions"]] == [3] * 6
    rows = last_line(call("predict", "digits", "--sample", "2", "--top", "5", "--json", cwd=work))["predictions"]
    assert [len(row["top"]) for row in rows] == [5, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "--data", "digits"], "--data, --picture and --seed are of --sample N"),
        (["--sample", "2", "--top", "0"], "top is 1 or more; got 0"),
        (["--sample", "2", "--picture", "a.jpg"], "a picture is a .png file; got a.jpg"),
        (["--sample", "2", "--seed", "-1"], "--seed"),
    ],
)
def test_predict_refuses_what_makes_no_sense(work: Path, run: RunDirectory, arguments: list[str], words: str) -> None:
    ended = invoke("predict", "digits", *arguments, cwd=work)
    assert ended.returncode == 2
    assert words in ended.stderr
