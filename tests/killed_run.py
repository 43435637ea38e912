"""A training run of a second or two to be killed: in the folder that is given, or on with what is there.

It saves after every step, so that many kills hit it while it saves.
"""

from pathlib import Path
from typing import Any

import numpy as np

from peregrine import host
from peregrine.dataset import Dataset, Splits
from peregrine.engines.pytorch import train as loop
from peregrine.recipe import Recipe
from peregrine.stages.training import train

BATCHES = 14  # steps in an epoch, of the 450 images that validation leaves


def train_in(run: Path, size: int, threads: int, changes: dict[str, Any]) -> None:
    """Train on random images of `size` pixels; `changes` are of the recipe."""
    host.threads = lambda: threads  # type: ignore[assignment]  # for this process
    loop.SAVE_EVERY_S = 0.0
    parts = []
    for count, seed in ((500, 0), (60, 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
        labels = (pixels[:, 4:8, 4:8, 0].mean((1, 2)) > 127).astype(np.int64)
        parts.append(Dataset(pixels, labels, np.arange(count).astype(str), ("dark", "light")))
    content = {
        "name": "tiny",
        "engine": "pytorch",
        "batch_size": 32,
        "augmentation": {"flip": "alternating", "translate": 2},
        "optimizer": {"name": "muon"},
        "schedule": {"name": "linear"},
    }
    recipe = Recipe.model_validate({**content, **changes})
    train(Splits(parts[0], None, parts[1]), recipe, run=run, resume=(run / "run.json").is_file())
