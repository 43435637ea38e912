"""What `peregrine train` hands to the stage: the recipe that was named, or none, so that training fits one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peregrine.__main__ import run
from peregrine.cli.train import training_request
from peregrine.rundir import RunDirectory


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twenty images of 16 pixels."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.torch
def test_small_sizes_go_by_the_images(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the default recipe trains with PyTorch")
    path = tmp_path / "run"
    changes = ("epochs=1", "model.widths=[6, 12]", "batch_size=8", "precision=fp32", "compile=off")
    settings = [word for change in changes for word in ("--set", change)]
    assert run(["train", "--data", str(photos), "--run", str(path), *settings]) == 0
    recipe = RunDirectory.open(path).recipe()
    assert (recipe.input.growth, recipe.epochs) == (((0.7, 12),), 1)


def test_a_recipe_that_is_named_stays_as_it_is(photos: Path) -> None:
    for data, recipe, expected in (("digits", None, "digits"), (str(photos), "sprint", "sprint")):
        request = training_request(data, recipe, None, {"epochs": 3}, None, False, "1%")
        assert (request["recipe"].name, request["recipe"].epochs) == (expected, 3)
        assert "changes" not in request
