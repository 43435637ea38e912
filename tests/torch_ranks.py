"""A few training steps by the ranks of torchrun, or by one process: `python torch_ranks.py FOLDER`.

Trains each model for an epoch of five steps into a run of its name in FOLDER.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peregrine import host
from peregrine.dataset import Dataset, Splits
from peregrine.engines.pytorch import steps
from peregrine.recipe import Recipe
from peregrine.stages.training import ancestor_of_run

CLASSES = ("first", "second", "third")
COMMON: dict[str, Any] = {
    "engine": "pytorch",
    "epochs": 1,
    "batch_size": 16,
    "precision": "fp32",
    "augmentation": {"flip": "random", "translate": 1},
    "callbacks": {"tensorboard": False},
}
# With the norms frozen, see below, nothing but the gradients ties the ranks together. Plain gradient descent, for Adam
# would blow up the rounding of gradients next to zero.
RESNET18: dict[str, Any] = {
    "model": {"name": "resnet18", "stem": "cifar"},
    "optimizer": {"name": "sgd", "learning_rate": 0.03},
}
RECIPES: dict[str, dict[str, Any]] = {
    "resnet18": RESNET18,
    # Norms over the whole batch; the whitening bias rests from the third step on.
    "sprint": {
        "model": {"name": "sprint", "widths": [6, 12], "whitening": 12, "whitening_bias": 0.4},
        "optimizer": {"name": "muon"},
    },
    "resnet18-double": RESNET18,
}


def noise(count: int, seed: int) -> Dataset:
    """Noise: in patterns, many pixels are equally large, and which of them a maximum takes would be up to rounding."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return Dataset(images, np.arange(count) % len(CLASSES), np.array([f"{seed}/{i}" for i in range(count)]), CLASSES)


def freeze(network: nn.Module, world: object) -> None:
    """Keep every norm in eval mode, whatever mode the network gets into."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval().train = lambda mode=True: None  # type: ignore[assignment,return-value,misc]


def compute_in_double() -> None:
    """From here on, weights, passes and optimisers are float64."""
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]


def main(folder: Path) -> None:
    host.threads = lambda: 1  # type: ignore[assignment]  # a look at the cgroups, elsewhere cached
    splits = Splits(noise(90, 0), noise(25, 1), noise(25, 2))
    synchronise = steps.synchronise
    for name, content in RECIPES.items():
        steps.synchronise = synchronise if name == "sprint" else freeze
        if name == "resnet18-double":
            compute_in_double()
        recipe = Recipe.model_validate({"schema": 1, "name": name, **COMMON, **content})
        ancestor_of_run(splits, recipe, run=folder / name, pictures=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
