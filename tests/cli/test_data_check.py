"""`peregrine data check` and `data prepare --exclude`, as a person uses them."""

import json
import re
import shutil
from pathlib import Path

import pytest

import making
from peregrine.__main__ import run


@pytest.fixture
def leaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    folder = making.split_photos(tmp_path / "photos", each=8)
    shutil.copy(folder / "train" / "cat" / "1.png", folder / "test" / "cat" / "copy.png")
    return folder


def test_from_check_to_clean_data(leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, page = tmp_path / "findings.csv", tmp_path / "check.html"
    assert run(["data", "check", str(leaky), "--csv", str(table), "--html", str(page), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  train/cat/1.png (cat) = test/cat/copy.png (cat)" in lines
    result = json.loads(lines[-1])
    assert [(found["id"], found["level"], len(found["cases"])) for found in result["findings"]] == [
        ("leakage", "error", 1)
    ]
    assert (result["csv"], result["html"]) == (str(table), str(page))
    assert page.read_text("utf-8").startswith("<!doctype html>")

    assert run(["data", "check", str(leaky), "--strict"]) == 1
    assert f"peregrine: {leaky} is not sound: leakage: 1 image has copies in another split" in capsys.readouterr().err
    assert run(["data", "prepare", str(leaky), "--exclude", str(table), "--json"]) == 0
    prepared = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: part["images"] for name, part in prepared["splits"].items()} == {"train": 15, "test": 17}
    assert "1 image is left out" in prepared["notes"][0]
    assert run(["data", "check", str(leaky), "--strict"]) == 0
    assert run(["data", "prepare", str(leaky), "--exclude", "none"]) == 0
    assert run(["data", "check", str(leaky), "--strict", "--only", "unreadable,conflict"]) == 0
    assert run(["data", "check", str(leaky), "--strict", "--only", "leakage"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "leek"], "unknown check 'leek'"),
        (["--only", ","], "--only takes ids of checks"),
    ],
)
def test_unknown_checks(leaky: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(leaky), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_documented_table_is_the_real_one() -> None:
    """Ids and levels are stable: scripts rely on them."""
    from peregrine.data.checks.base import RULES

    page = (Path(__file__).parents[2] / "docs" / "data-check.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning) \|", page, re.MULTILINE)
    assert rows == [(rule.id, rule.level) for rule in RULES.values()]
