"""The classic flags: what scripts around `model.fit` call their constants, as changes of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peregrine import catalog
from peregrine.errors import UsageError, suggestion

if TYPE_CHECKING:
    from peregrine.recipe import Recipe

DEFAULT = "resnet"  # where a classic flag is given and nothing says which network
CHECKPOINTS = {"callbacks.checkpoint_format": "h5"}


def classic_recipe(
    recipe: str | None, model_type: str | None, load_model: Path | None, changes: dict[str, Any]
) -> "tuple[str | Recipe | None, dict[str, Any]]":
    """Which recipe the flags of `run` mean, and what they change in it.

    `--recipe` with `changes` is that recipe, changed. Without it, `--model-type` names the recipe of a network;
    `--load-model` alone goes on with the recipe in the file; `changes` alone mean the network of the classic scripts.

    Args:
        changes: what `--epochs`, `--batch-size` and `--learning-rate` set.

    Returns:
        A recipe or its name, None for the default of the data; and dotted keys to replace.

    Raises:
        UsageError: flags that contradict each other, an unknown network, or nothing to load.
    """
    if recipe and model_type:
        raise UsageError("--model-type chooses a recipe by its network; give it or --recipe, not both")
    if load_model:
        changes = {**changes, "load_model": str(load_model)}
    if recipe:
        return recipe, changes
    if model_type:
        return _recipe_of(model_type), {**CHECKPOINTS, **changes}
    if load_model:
        own: Recipe = catalog.load("stage", "origin")(load_model).recipe
        return own, changes
    return (DEFAULT, {**CHECKPOINTS, **changes}) if changes else (None, {})


def strategy_changes(strategy: str | None, gpus: int | None, devices: str | None) -> dict[str, Any]:
    """What `--strategy`, `--num-gpus` and `--devices` change in a recipe.

    Raises:
        UsageError: two flags say which devices.
    """
    if gpus is not None and devices is not None:
        raise UsageError(
            f"--num-gpus and --devices both say which devices; got {gpus} and {devices!r}; give one of them"
        )
    wanted = {"strategy.name": strategy, "strategy.devices": devices if gpus is None else f"gpu:{gpus}"}
    return {key: value for key, value in wanted.items() if value is not None}


def _recipe_of(model: str) -> str:
    """Classic model types name the recipe of the same name."""
    from peregrine.recipe import recipe_names

    networks = [key.partition("/")[2] for key in catalog.CATALOG["model"] if key.startswith("tensorflow/")]
    known = [name for name in networks if name in recipe_names()]
    if model not in known:
        raise UsageError(f"--model-type is one of {', '.join(known)}; got {model!r}{suggestion(model, known)}")
    return model
