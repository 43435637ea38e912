"""What `peregrine predict` answers, about files and about samples of the data, and what it refuses."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from command import call, invoke, last_line
from peregrine.rundir import RunDirectory

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


def test_predict_files_whose_names_are_no_text(work: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (work / "odd").mkdir()
    Image.new("RGB", (8, 8), "white").save(work / "odd" / "a.png")
    (work / "odd" / "a.png").rename(work / "odd" / name)
    utf8 = {"PYTHONIOENCODING": "utf-8"}  # strict, as in most people's terminals
    told = invoke("predict", "digits", "odd", "--json", cwd=work, **utf8)
    assert json.loads(told.stdout)["predictions"][0]["file"] == f"odd/{name}"
    command = [sys.executable, "-m", "peregrine", "predict", "digits", "odd", "--csv"]
    printed = subprocess.run(command, cwd=work, env={**os.environ, **utf8}, stdout=subprocess.PIPE, check=True).stdout
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
