"""A `keras` Artifact without a training run: random weights, real statistics. Needs TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

import making
import small_runs
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.engine import KerasModel
from peregrine.metrics import softmax

CLASSES = ("cat", "dog", "falcon")


def write(path: Path, size: int = 12, temperature: float = 1.7, **options: Any) -> Artifact:
    """Write one for `size`-pixel images of three classes; `options` are the network's."""
    recipe = small_runs.recipe(
        "tensorflow", {"input.size": size, "model": {"name": "cnn", "widths": [8], "dense": [16], **options}}
    )
    images = making.images(64, size)
    trained = network.trainable(recipe, len(CLASSES), network.Normalisation.of(images), "fp32")
    generator = np.random.default_rng(0)
    for weight in trained.weights:  # statistics and biases too, which start as zeros and ones
        weight.assign(weight.numpy() + generator.uniform(0.0, 0.3, weight.shape))
    model = KerasModel(recipe, len(CLASSES), trained)
    like = {
        "class_names": CLASSES,
        "preprocess": {"size": size, "resize": "crop"},
        "model": recipe.model.model_dump(mode="json"),
        "engine": "tensorflow",
        "recipe": recipe.to_dict(),
        "temperature": temperature,
    }
    answers = softmax(model.logits(images[:4]) / temperature).astype("float32")
    with Artifact.write(path, format="keras", like=like, golden=Golden(images[:4], {ANCESTOR: answers})) as folder:
        model.save(folder, temperature)
    return Artifact.open(path)
