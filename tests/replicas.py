"""A few training steps under a strategy, in a process of its own: `python replicas.py OUT DEVICES`.

TensorFlow splits a CPU into logical devices, and joins other machines, only before it starts. Writes an .npz with, for
each model, the loss of each step, and every weight, statistic and optimiser state after the first and the last one.
"""

import sys
from dataclasses import replace
from typing import Any

import numpy as np

import small_runs
from peregrine.engines.tensorflow import network, pipeline, strategy
from peregrine.engines.tensorflow.legs import legs
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.prepare import steps_per_epoch
from peregrine.engines.tensorflow.steps import Steps, TrainingData
from peregrine.recipe import Recipe, Strategy

RECIPES: dict[str, dict[str, Any]] = {
    # No dropout, the norms frozen below: nothing but the gradients ties the replicas together. SGD, whose momentum
    # after the first step is the gradient; Adam would blow up the rounding of gradients next to zero.
    "cnn": {
        "model.dropout": 0.0,
        "augmentation": {"flip": "random", "rotation": 10.0, "mixup": 0.5},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
    },
    # Norms over the whole batch, synchronised.
    "sprint": {
        "model": {"name": "sprint", "widths": [6, 12], "whitening": 12},
        "optimizer": {"name": "muon"},
        "augmentation": {"flip": "alternating", "translate": 1},
    },
}


def data() -> Any:
    """Noise: in patterns, many pixels are equally large, and which of them a maximum takes would be up to rounding."""
    images = np.random.default_rng(5).integers(0, 256, (small_runs.TRAIN, small_runs.SIZE, small_runs.SIZE, 3))
    return replace(small_runs.patterns(small_runs.TRAIN, 0), images=images.astype(np.uint8))


def main(out: str, devices: str) -> None:
    """Run an epoch of each model: five whole batches, and one of 10 images."""
    name = {"auto": "none", "workers": "multiworker"}.get(devices, "mirrored")
    settings = {"name": name, "devices": "auto" if devices == "workers" else devices}
    chosen = strategy.choose(Strategy.model_validate(settings))
    found: dict[str, Any] = {}
    for model, changes in RECIPES.items():
        recipe = small_runs.recipe("tensorflow", {**changes, "input.size": small_runs.SIZE, "strategy": settings})
        found |= {f"{model}/{key}": value for key, value in epoch(recipe, chosen).items()}
    np.savez(out, **found)


def epoch(recipe: Recipe, chosen: Any) -> dict[str, Any]:
    images = data()
    source = pipeline.Resident(images, chosen)
    steps = Steps(recipe, TrainingData.of(recipe, images, None, chosen, source), "fp32")
    if recipe.model.name == "cnn":
        for layer in steps._model.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    count = steps_per_epoch(len(images), recipe.batch_size, chosen.num_replicas_in_sync)
    leg = legs(recipe, network.phases(recipe), count)[-1]
    order = pipeline.order(len(images), 0, 0)
    found: dict[str, Any] = {}
    for first, last in ((0, 1), (1, count)):
        places = first * recipe.batch_size, min(last * recipe.batch_size, len(images))
        rates = np.full(last - first, recipe.optimizer.learning_rate, np.float32)
        found[f"losses {last}"], _ = steps.train(leg, source.block(order, *places), 0, first, rates)
        found |= {f"state {last}, {number}": value for number, value in enumerate(steps.read())}
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
