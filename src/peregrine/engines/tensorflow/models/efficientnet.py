"""`efficientnet`: EfficientNetB0 of `keras.applications`, trained on ImageNet before, with a head of its own.

Shapes at 224 pixels, without N:
    images         32  32    3     whatever the data have
    standardise    32  32    3     in the way that the weights know
    resize        224 224    3     bilinear
    base             1280          EfficientNetB0 up to its pooled features
    head                C          dropout, dense

Source: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946;
layers and weights are those of keras.applications, Keras 3.15.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from peregrine.dataset import Images
from peregrine.engines.tensorflow import pretrained
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.models.base import ALWAYS, Phase
from peregrine.engines.tensorflow.pretrained import Published, Weights
from peregrine.errors import RecipeError
from peregrine.validation import Fraction, Positive, Probability, Table

TAKES_PIXELS = True

# Keras' address and checksum, from keras/src/applications/efficientnet.py.
OFFICIAL = Published(
    "https://storage.googleapis.com/keras-applications/efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"
)

# Mean and deviation that pixels 0..1 are standardised with.
STANDARDS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "unit": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
}


class Options(Table):
    """Where the base comes from, and how it is tuned.

    Attributes:
        weights: of the base: `imagenet` is the official file, which is downloaded once into Keras' own cache; `none`
            begins with random ones; else the path of an .h5 file in the official layout, with or without the top.
        resolution: side of the images that the base sees, in pixels.
        pixels: how they are standardised; `auto` is what the weights were trained with.
        dropout: fraction of the pooled features that a training step leaves out.
        head_share: share of the run in which the head alone learns.
        fine_tune_rate: what the learning rate is multiplied with after that, when everything learns.
    """

    weights: Annotated[str, Field(min_length=1)] = "imagenet"
    resolution: Annotated[int, Field(ge=32)] = 224
    pixels: Literal["auto", "imagenet", "unit"] = "auto"
    dropout: Fraction = 0.2
    head_share: Probability = 0.2
    fine_tune_rate: Positive = 0.1


def smallest_input(options: Options) -> int:
    """Every image is resized."""
    return 1


def build(options: Options, images: Any, class_count: int) -> Any:
    """Stack the layers, with random weights; `fit` loads the others.

    Args:
        images: symbolic `(N, H, W, 3)`, pixels 0..255.

    Returns:
        Symbolic float32 `(N, class_count)`.
    """
    layers = keras.layers
    means, deviations = STANDARDS["imagenet" if options.pixels == "auto" else options.pixels]
    scale = [1 / (255 * deviation) for deviation in deviations]
    offset = [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)]
    # Before the resizing, where there are fewer pixels; in float32 whatever the policy, as is every image's way in.
    x = layers.Rescaling(scale, offset, dtype="float32", name="standardise")(images)
    side = options.resolution
    resize = layers.Resizing(side, side, interpolation="bilinear", dtype="float32", name="resize")
    # Its own default is True, which every layer after it would believe where a model is called without a word (3.15).
    x = resize(x, training=False)
    x = _base(side)(x)
    x = layers.Dropout(options.dropout, name="dropout")(x)
    return layers.Dense(class_count, dtype="float32", name="head")(x)


def resolve(options: Options, images: Images) -> Options:
    """Fetch the weights, see that they fit, and fill in `pixels`.

    Raises:
        MachineError: the official file is not there and cannot be downloaded.
        DamagedFile: the file is not the official one, or is broken.
        RecipeError: there is no such file, or it is of another network, or wants its pixels otherwise.
    """
    if options.weights == "none":
        return options.model_copy(update={"pixels": "imagenet" if options.pixels == "auto" else options.pixels})
    path = _path(options)
    weights = pretrained.read(path)
    pretrained.check(_base(options.resolution), weights, path)
    wanted = _standard(weights, path)
    if options.pixels not in ("auto", wanted):
        raise RecipeError(f"model.pixels must be {wanted} with the weights of {path}; got {options.pixels}")
    return options.model_copy(update={"pixels": wanted})


def fit(options: Options, model: Any, images: Images) -> None:
    """Load the weights into the layer `base`; raises what `resolve` does."""
    if options.weights == "none":
        return
    base, path = model.get_layer("base"), _path(options)
    weights = pretrained.read(path)
    pretrained.check(base, weights, path)
    pretrained.fill(base, weights)


def phases(options: Options) -> tuple[Phase, ...]:
    """The head first, so that its random weights do not spoil the base's; then everything, more slowly."""
    if options.weights == "none":
        return ALWAYS
    head = [Phase(until=options.head_share, resting=("base",))] if options.head_share > 0 else []
    everything = [Phase(rate=options.fine_tune_rate)] if options.head_share < 1 else []
    return (*head, *everything)


def _base(side: int) -> Any:
    """EfficientNetB0 without its top, and without its Rescaling and Normalization.

    Keras' Normalization copies its weights into constants when it is built, so those that are assigned to it later do
    nothing; in bfloat16 it would round the pixels, too.
    """
    whole = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg"
    )
    return keras.Model(whole.get_layer("stem_conv_pad").input, whole.output, name="base")


def _path(options: Options) -> Path:
    return pretrained.fetch(OFFICIAL) if options.weights == "imagenet" else Path(options.weights).expanduser()


def _standard(weights: Weights, path: Path) -> str:
    """Which of `STANDARDS` a file's layer `normalization` holds: mean, variance, count.

    The official file has ImageNet's deviations where the layer reads variances, and Keras divides by their roots once
    more where it loads that file itself, but not from a path: https://github.com/tensorflow/tensorflow/issues/49930.
    """
    found = next((values for name, values in weights.items() if name.startswith("normalization")), None)
    if found is not None and len(found) >= 2:
        for name, (means, deviations) in STANDARDS.items():
            variances = (deviations, np.square(deviations))
            if np.allclose(found[0], means, atol=1e-4) and any(np.allclose(found[1], v, atol=1e-4) for v in variances):
                return name
    got = "none" if found is None else f"{[value.tolist() for value in found[:2]]}"
    raise RecipeError(
        f"{path} does not fit the model: its layer normalization needs ImageNet's mean and deviation, or 0 and 1; "
        f"got {got}; give model.weights another file"
    )
