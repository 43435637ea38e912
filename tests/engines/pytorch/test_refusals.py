"""What the engine cannot do is refused before anything is written, with the key and the way out."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
from peregrine.dataset import Dataset
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.errors import RecipeError
from peregrine.recipe import Recipe

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation.translate": 12}, r"augmentation\.translate is below the image size, 12 pixels; got 12"),
        ({"input.growth": [[0.5, 16]]}, r"input\.growth has sizes up to the images' own, 12 pixels; got 16"),
        (
            {"strategy.name": "mirrored"},
            r"strategy\.name 'auto' or 'none'; got 'mirrored'; use --set strategy\.name=auto ",
        ),
        ({"strategy.name": "multiworker"}, r"got 'multiworker'; .* or the engine tensorflow$"),
        ({"strategy.devices": "cpu:2"}, r"has strategy\.devices 'auto'; got 'cpu:2'"),
        ({"model.depth": 5}, r"\[model\]: depth must be less than or equal to 4 or be a valid array; got 5"),
        ({"callbacks.checkpoint_format": "h5"}, r"has callbacks\.checkpoint_format 'auto' or 'safetensors'; got 'h5'"),
        ({"batch_size": 1}, r"batch_size is 2 or more in the engine pytorch"),
        ({"model.widhts": [8]}, r"\[model\]: unknown key 'widhts'; did you mean 'widths'\?"),
        ({"model.widths": []}, r"\[model\]: widths "),
        ({"model.activation": "tanh"}, r"activation must be 'gelu', 'silu', 'relu' or 'hard-swish'; got 'tanh'"),
        ({"model.whitening": 7}, r"\[model\]: whitening"),
    ],
)
def test_refused(
    changes: dict[str, Any], message: str, tiny: Callable[..., Recipe], shades: Callable[..., Dataset]
) -> None:
    with pytest.raises(RecipeError, match=message):
        PyTorchEngine().resolve(tiny({"input.size": 12, **changes}), shades())


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation.preset": "none"},
        {"augmentation.preset": "classic"},
        {"augmentation.mixup": 0.2},
        {"strategy.name": "none"},
        {"callbacks.checkpoint_format": "safetensors"},
    ],
)
def test_accepted(changes: dict[str, Any], tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    recipe = PyTorchEngine().resolve(tiny({"input.size": 12, **changes}), shades())
    for key, value in changes.items():
        table, _, last = key.partition(".")
        assert getattr(getattr(recipe, table), last) == value


def test_resolving_fills_in_the_options(tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    recipe = PyTorchEngine().resolve(tiny({"input.size": 12}), shades())
    assert recipe.model.options == {
        "widths": [6, 12], "depth": 2, "skip_from": 3, "activation": "gelu", "whitening": 24,
        "whitening_bias": 0.5,
    }  # fmt: skip
    assert PyTorchEngine().resolve(recipe, shades()) == recipe
