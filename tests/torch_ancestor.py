"""A `torch` Artifact without a training run: random weights, real statistics. Needs PyTorch."""

from pathlib import Path
from typing import Any

import torch

import making
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.dataset import channel_statistics
from peregrine.engines.pytorch.engine import RestoredModel
from peregrine.engines.pytorch.graph import Normalise, build_classifier
from peregrine.metrics import softmax
from peregrine.recipe import ModelChoice

CLASSES = ("cat", "dog", "falcon")


def write(path: Path, size: int = 12, temperature: float = 1.7, **options: Any) -> Artifact:
    """Write one for `size`-pixel images of three classes; `options` are the network's, or change a small `sprint`."""
    chosen = options if "name" in options else {"name": "sprint", "widths": [8, 16], "whitening": 24, **options}
    model = ModelChoice.model_validate(chosen)
    images = making.images(64, size)
    classifier = build_classifier(model, size, len(CLASSES))
    classifier.normalise = Normalise.by(*channel_statistics(images))
    pixels = torch.from_numpy(images)
    classifier.network.fit(classifier.normalise(pixels.permute(0, 3, 1, 2).float()))
    for weight in classifier.network.parameters():
        if weight.requires_grad and weight.ndim == 1:  # biases, most of which start as zeros
            weight.data += torch.rand(len(weight), generator=torch.Generator().manual_seed(0)) / 3
    for _ in range(10):  # the norms' averages settle
        classifier.train()(pixels)
    restored = RestoredModel(classifier.eval())
    like = {
        "class_names": CLASSES,
        "preprocess": {"size": size, "resize": "crop"},
        "model": model.model_dump(mode="json"),
        "engine": "pytorch",
        "recipe": {},
        "temperature": temperature,
    }
    answers = softmax(restored.logits(images[:4]) / temperature).astype("float32")
    with Artifact.write(path, format="torch", like=like, golden=Golden(images[:4], {ANCESTOR: answers})) as folder:
        restored.save(folder, temperature)
    return Artifact.open(path)
