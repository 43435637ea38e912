"""`docs/recipes.md` explains each key of a recipe, each preset and each classic flag, and nothing else."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from peregrine.augmentation import PRESETS
from peregrine.cli.app import app
from peregrine.recipe import Recipe
from peregrine.validation import _keys

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
TABLES = {"model", "input", "augmentation", "optimizer", "schedule", "callbacks", "strategy"}
KEYS = set(_keys(Recipe)) - TABLES


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_key_is_explained(key: str) -> None:
    assert f"`{key}`" in PAGE


def test_no_key_is_made_up() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(TABLES - {'model'})})\.\w+)`", PAGE))
    assert named <= KEYS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_told_in_full(preset: str) -> None:
    (told,) = re.findall(rf"^\| `{preset}` \| (.*) \|$", PAGE, re.MULTILINE)
    settings = dict(re.findall(r"`(\w+) = ([^`]+)`", told))
    assert {key: value.strip('"') for key, value in settings.items()} == {
        key: f"{value:g}" if isinstance(value, float | int) else value for key, value in PRESETS[preset].items()
    }


def test_every_flag_of_the_page_exists() -> None:
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    known = {flag for verb in ("run", "train") for parameter in verbs[verb].params for flag in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known
