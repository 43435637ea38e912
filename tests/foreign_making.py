"""Classifiers of somebody else: random convolutions, tanh, and a readout that is fitted in one step.

The tanh makes them mind the scale of what they are given. None of Peregrine's own ways of making models is used.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset, Splits
from peregrine.foreign.pixels import Pixels

Floats = npt.NDArray[np.float32]
WIDTH = 8
PIXELS = Pixels(scale=1 / 255, mean=(0.3, 0.3, 0.3), std=(0.35, 0.35, 0.35))


@dataclass(frozen=True)
class Network:
    """Weights, channels last: kernel `(3, 3, 3, W)`, bias `(W,)`, readout `(H, W, W, C)`."""

    kernel: Floats
    bias: Floats
    readout: Floats

    def logits(self, values: Floats) -> Floats:
        """Preprocessed images `(N, H, W, 3)` to `(N, C)`."""
        return np.einsum("nhwc,hwck->nk", _features(values, self.kernel, self.bias), self.readout)


def fitted(part: Dataset, pixels: Pixels = PIXELS) -> Network:
    """One that knows these images when their pixels are treated so."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.3, (3, 3, 3, WIDTH)).astype(np.float32)
    bias = random.normal(0, 0.3, WIDTH).astype(np.float32)
    features = _features(pixels.apply(part.images[:]), kernel, bias)
    flat = features.reshape(len(part), -1).astype(np.float64)
    targets = 10 * np.eye(len(part.class_names))[part.labels]
    readout = np.linalg.solve(flat.T @ flat + 3 * np.eye(flat.shape[1]), flat.T @ targets)
    return Network(kernel, bias, readout.reshape(*features.shape[1:], -1).astype(np.float32))


def tinted(splits: Splits) -> Splits:
    """The same images in a colour that makes red, green and blue tell different things."""

    def tint(part: Dataset) -> Dataset:
        images = part.images[:].copy()
        images[..., 1] //= 2
        images[..., 2] = 255 - images[..., 2] // 3
        return Dataset(images, part.labels, part.ids, part.class_names)

    return Splits(tint(splits.train), None, tint(splits.test))


def torch_module(network: Network) -> Any:
    """PyTorch: NCHW to logits."""
    import torch
    from torch import nn

    height, _, width, classes = network.readout.shape
    module = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(width * height**2, classes, bias=False)
    )
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(network.kernel.transpose(3, 2, 0, 1)))
        module[0].bias.copy_(torch.from_numpy(network.bias))
        readout = network.readout.transpose(3, 2, 0, 1).reshape(classes, -1)
        module[3].weight.copy_(torch.from_numpy(np.ascontiguousarray(readout)))
    return module.eval()


def export(module: Any, path: Path, opset: int = 17, batch: int | None = None, size: int = 8, **more: Any) -> Path:
    """By PyTorch's older exporter, which is what most files come from; the batch is free unless given."""
    import torch

    free = {} if batch else {"dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}}
    example = torch.zeros(batch or 1, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            **free,
            **more,
        )
    return path


def keras_model(network: Network, softmax: bool = True, **first: Any) -> Any:
    """Keras: NHWC to probabilities, or logits."""
    from peregrine.engines.tensorflow.library import keras

    height, _, width, classes = network.readout.shape
    model = keras.Sequential([
        keras.Input((height, height, 3)),
        keras.layers.Conv2D(width, 3, padding="same", activation="tanh", **first),
        keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax" if softmax else None, use_bias=False),
    ])  # fmt: skip
    model.layers[0].set_weights([network.kernel, network.bias])
    model.layers[2].set_weights([network.readout.reshape(-1, classes)])
    return model


def save_keras(model: Any, path: Path) -> Path:
    """By Keras' own means, without its remarks: that HDF5 is old, and that NumPy 2 is new."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(path)
    finally:
        logger.setLevel(level)
    return path


def _features(values: Floats, kernel: Floats, bias: Floats) -> Floats:
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.tanh(np.einsum("nhwcij,ijck->nhwk", windows, kernel, optimize=True) + bias)
