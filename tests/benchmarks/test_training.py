"""`benchmarks/training.py` on scanned digits: killed in the middle, gone on with, and what it says in the end."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the recipes train with PyTorch")
from benchmarks.rival_scripts import read_result

from peregrine.recipe import load_recipe

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("benchmark-training")]
ROOT = Path(__file__).parents[2]

TINY = """
engine = "pytorch"
epochs = 2
batch_size = 256
model = {name = "sprint", widths = [8, 16]}
optimizer = {name = "muon"}
precision = "fp32"
"""
TABLE = """
---------------------------------------------------------------------------
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
---------------------------------------------------------------------------
|  warmup  |      0  |     0.1000  |   0.1000  |               |        9.0000  |
|          |   eval  |     0.1000  |   0.1000  |       0.1100  |       18.5000  |
---------------------------------------------------------------------------
|       0  |      0  |     0.5000  |   0.6000  |               |        1.2500  |
|          |      1  |     0.8000  |   0.9000  |               |        2.5000  |
|          |   eval  |     0.8000  |   0.9000  |       0.9250  |        2.7500  |
---------------------------------------------------------------------------
Mean: 0.9250    Std: 0.0000
/logs/1/log.pt
"""
FROM_TABLE = {
    "training_seconds": 2.75,
    "accuracy": 0.9,
    "accuracy_tta": 0.925,
    "curve": [(1.25, 0.6), (2.5, 0.9)],
}


@pytest.fixture
def contenders(tmp_path: Path) -> list[str]:
    """The options that name a recipe and a script."""
    (tmp_path / "ours.toml").write_text(TINY)
    (tmp_path / "script.py").write_text(f"print('''{TABLE}''')")
    options = {"--recipe": "ours.toml", "--rival-script": "script.py"}
    return [part for option, name in options.items() for part in (option, str(tmp_path / name))]


def start(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "benchmarks" / "training.py"), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(*options: str) -> str:
    process = start(*options)
    stderr = process.communicate()[1]
    assert process.returncode == 1
    return stderr.splitlines()[-1]


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.exists() else []
    return found


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_it_goes_on(tmp_path: Path, contenders: list[str]) -> None:
    out = tmp_path / "results" / "digits.json"
    out.parent.mkdir()
    options = [*contenders, "--data", "digits", "--seeds", "2", "--out", str(out)]
    process = start(*options)
    while process.poll() is None and not (len(rows(out)) == 2 and children(process.pid)):
        time.sleep(0.05)
    (child,) = children(process.pid)
    process.kill()
    process.communicate()
    first = rows(out)
    assert len(first) == 2
    end = time.monotonic() + 20
    while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < end, "the run outlived its benchmark"
        time.sleep(0.05)

    process = start(*options)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    found = rows(out)
    order = [("ours", 0), ("script", 0), ("ours", 1), ("script", 1)]
    assert [(row["who"], row["seed"]) for row in found] == order
    assert found[:2] == first
    for row in found:
        assert {"training_seconds", "accuracy", "accuracy_tta", "curve", "host", "versions"} <= row.keys()
    ours, script, other_seed, _ = found
    assert (ours["precision"], ours["device"]) == ("fp32", "cpu")
    assert ours["accuracy"] == ours["curve"][-1][1] != other_seed["accuracy"]
    assert len(ours["curve"]) == 2
    assert ours["curve"][-1][0] == pytest.approx(ours["training_seconds"])
    assert script["training_seconds"] == 2.75
    lines = stdout.splitlines()
    assert lines[-1].split()[:5] == ["script", "2", "2.75", "±", "0.00"]
    assert "92.50 ± 0.00" in lines[-1]
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert not list(out.parent.glob(".tmp-*"))

    written = out.stat().st_mtime_ns
    process = start(*options)
    assert process.communicate()[0] == stdout
    assert out.stat().st_mtime_ns == written

    other = [*contenders, "--data", "cifar10", "--seeds", "2", "--out", str(out)]
    assert "has data 'digits', this is 'cifar10'; choose another --out" in refused(*other)
    (tmp_path / "ours.toml").write_text(TINY.replace("[8, 16]", "[8, 24]"))
    assert "has rows of another ours; choose another --out" in refused(*options)


def test_what_a_script_prints() -> None:
    assert read_result(TABLE) == FROM_TABLE
    told = {"accuracy": 0.94, "seconds": 2.6}
    assert read_result(f"epoch 1\n{json.dumps(told)}\n\n") == {
        "training_seconds": 2.6, "accuracy": 0.94, "accuracy_tta": None, "curve": []
    }  # fmt: skip
    for nothing in ("", "0.94\n", '{"loss": 3}\n', "| a | b |\n| 1 | 2 |\n"):
        assert read_result(nothing) is None


def test_refusals(tmp_path: Path, contenders: list[str]) -> None:
    twice = ["--recipe", contenders[1], "--rival", contenders[1]]
    assert "each contender needs a name of its own" in refused(*twice)
    assert "--rival-script is an existing file" in refused("--rival-script", str(tmp_path / "nothing.py"))
    assert "did you mean 'sprint-quick'" in refused("--recipe", "sprint-quik")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_rivals_recipes_can_be_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.validation == "none"
