"""Weights that somebody else trained: a state dict in a file or on the hub, held against a network name by name."""

import logging
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from peregrine import catalog
from peregrine.errors import DamagedFile, RecipeError

HUB = "hf://"
SHOWN = 3  # names in a message
logger = logging.getLogger("peregrine")

Weights = dict[str, Tensor]
Hint = Callable[[str, Sequence[int]], str]  # a weight's name and the shape that was found -> what to do about it


def locate(weights: str) -> tuple[str, Path]:
    """Where the file of `model.weights` is, after a download if need be, and by which name it is found again.

    Raises:
        RecipeError: there is no such file.
        MissingDependency: weights from the hub need the extra `hub`.
        MachineError: the hub cannot be reached.
    """
    if weights.startswith(HUB):
        found: tuple[str, Path] = catalog.load("weights", HUB)(weights)
        return found
    path = Path(weights).expanduser()
    if not path.is_file():
        raise RecipeError(f"model.weights is none, a file or hf://owner/name; got {weights}, which is no file")
    return weights, path


def read(path: Path) -> Weights:
    """The tensors of a state dict, by name, on the CPU; without the wrapping `state_dict` and the prefix `module.`.

    Raises:
        RecipeError: the file holds something else.
        DamagedFile: it is broken, or cannot be opened without running code from it.
    """
    content = _opened(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(map(_is_named_tensor, content.items())):
        raise RecipeError(
            f"model.weights takes tensors by name, plain or under the key state_dict; got {path} with "
            f"{_described(content)}; save the model's state_dict()"
        )
    wrapped = all(name.startswith("module.") for name in content)  # by DataParallel
    return {name.removeprefix("module.") if wrapped else name: value for name, value in content.items()}


def check(network: nn.Module, weights: Weights, path: Path, head: str, hint: Hint) -> None:
    """See that every weight of a network is there, in its shape, and nothing else; the head may have other classes.

    Args:
        head: name of the last layer.

    Raises:
        RecipeError: names the first weights that are not, with both shapes.
    """
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if classes := found.get(f"{head}.weight", ())[:1]:
        needed |= {name: classes + shape[1:] for name, shape in needed.items() if name.startswith(f"{head}.")}
    wrong = [name for name, shape in needed.items() if found.get(name, shape) != shape]
    # PyTorch before 0.4.1 did not count batches, and nothing reads the count.
    missing = [name for name in needed if name not in found and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in found if name not in needed]
    if not (wrong or missing or unexpected):
        return
    shapes = [f"{name} has shape {found[name]}, the network needs {needed[name]}" for name in wrong]
    parts = [_few(shapes), _few(missing, "missing: "), _few(unexpected, "unexpected: ")]
    fix = hint(wrong[0], found[wrong[0]]) if wrong else "give model.weights another file"
    raise RecipeError(f"{path} does not fit the model: {'; '.join(part for part in parts if part)}; {fix}")


def fill(network: nn.Module, weights: Weights, path: Path, head: str) -> None:
    """Give a network the weights that `check` has seen; its head stays fresh where it has other classes."""
    theirs, ours = len(weights[f"{head}.weight"]), len(network.state_dict()[f"{head}.weight"])
    if theirs != ours:
        logger.info("%s knows %d classes, the data has %d: the layer %s starts fresh", path, theirs, ours, head)
        weights = {name: value for name, value in weights.items() if not name.startswith(f"{head}.")}
    network.load_state_dict(weights, strict=False)


def _opened(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DamagedFile(
            f"{path} cannot be opened as tensors and nothing else, the one way that runs no code from it; "
            "save the model's state_dict() again, best as .safetensors"
        ) from error


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"the keys {_few([repr(key) for key in content])}" if content else "nothing"


def _few(items: Sequence[str], title: str = "") -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{title}{', '.join(items[:SHOWN])}{more}" if items else ""
