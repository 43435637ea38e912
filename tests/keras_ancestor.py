"""A `keras` Artifact without a training run: random weights, real statistics. Needs TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

import making
import small_runs
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.dataset import channel_statistics
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.engine import KerasModel
from peregrine.engines.tensorflow.library import keras
from peregrine.metrics import softmax

CLASSES = ("cat", "dog", "falcon")


def write(path: Path, size: int = 12, temperature: float = 1.7, **options: Any) -> Artifact:
    """Write one for `size`-pixel images of three classes; `options` are the network's, by default a small `cnn`'s."""
    chosen = options if "name" in options else {"name": "cnn", "widths": [8], "dense": [16], **options}
    recipe = small_runs.recipe("tensorflow", {"input.size": size, "model": chosen})
    images = making.images(64, size)
    trained = network.trainable(
        recipe, len(CLASSES), network.normalisation(recipe, *channel_statistics(images)), "fp32", images
    )
    generator = np.random.default_rng(0)
    for weight in trained.trainable_weights:  # biases too, which start as zeros
        weight.assign(weight.numpy() + generator.uniform(0.0, 0.3, weight.shape) * (len(weight.shape) == 1))
    for layer in trained._flatten_layers():  # the statistics of these images
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    trained(images.astype(np.float32), training=True)
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
