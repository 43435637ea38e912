"""`sprint`: whitened 2×2 patches, groups of convolutions, global max-pooling, a linear head; as PyTorch's.

Shapes: K whitening filters, groups of widths W1 to WG, without N:
    images        H      W      3         normalised
    whitening    H-1    W-1     K         2×2 filters from the data, a learned bias, activation
    group 1    (H-1)/2 (W-1)/2  W1        convolution 3×3, max-pool, norm, activation; convolution 3×3, norm, activation
    …
    group G                     WG
    maximum                     WG
    head                        C         linear without bias, divided by WG

With other depths the second half of a group is there one time less often than its depth; see `Options` for the skip.

Source: the shape and its start follow airbench94_muon, and groups of three airbench96
(github.com/KellerJordan/cifar10-airbench), which build on hlb-CIFAR10 (github.com/tysam-code/hlb-CIFAR10).
"""

from typing import Any

import numpy as np

from peregrine.dataset import Images
from peregrine.engines.sprint import PATCH, Activation, Options
from peregrine.engines.sprint import resolve as resolve
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.models.base import Phase
from peregrine.engines.whitening import whitening_filters

ANY_SIZE = True

# A momentum of 0.6 (0.4 in PyTorch's sense) lets the averages follow the weights, which move far in a step. Smaller
# values of epsilon multiply the rounding errors of a channel without variance.
MOMENTUM, EPSILON = 0.6, 1e-5

_ACTIVATIONS: dict[Activation, str] = {"gelu": "gelu", "silu": "silu", "relu": "relu", "hard-swish": "hard_silu"}


def smallest_input(options: Options) -> int:
    """Each group halves the image, and the whitening takes a pixel."""
    side: int = 2 ** len(options.widths) + 1
    return side


def phases(options: Options) -> tuple[Phase, ...]:
    """The filters never learn, and their bias only at first."""
    first = Phase(until=options.whitening_bias, resting=("whitening/kernel",))
    return (first, Phase(resting=("whitening",))) if options.whitening_bias < 1 else (first,)


def fit(options: Options, model: Any, images: Images) -> None:
    """Take the whitening filters from a sample of the training images, and give the other weights their start.

    Args:
        images: uint8 `(n, H, W, 3)`.
    """
    normalise, whitening, head = (model.get_layer(name) for name in ("normalise", "whitening", "head"))
    pixels = images.astype(np.float32) * np.float32(normalise.scale) + np.float32(normalise.offset)
    filters = whitening_filters(pixels, PATCH, whitening.filters)
    whitening.kernel.assign(filters.transpose(2, 3, 1, 0))
    for layer in model.layers:
        if layer.name.startswith("convolution_"):
            _pass_through(layer.kernel)
    head.kernel.assign(head.kernel.numpy() / head.kernel.numpy().std())


def build(options: Options, images: Any, class_count: int) -> Any:
    """Stack the layers.

    Args:
        options: resolved.
        images: symbolic float `(N, H, W, 3)`, normalised, of any size.

    Returns:
        Symbolic float32 `(N, class_count)`.
    """
    layers = keras.layers

    def activation(name: str) -> Any:
        return layers.Activation(_ACTIVATIONS[options.activation], name=name)

    def convolution(width: int, name: str) -> Any:
        initial = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # PyTorch's default
        return layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=initial, name=name)

    def norm(name: str) -> Any:
        return layers.BatchNormalization(scale=False, momentum=MOMENTUM, epsilon=EPSILON, name=name)

    # In float32 whatever the policy, as PyTorch's, where a bf16 2×2 convolution was wrong (pytorch/pytorch #163347).
    x = layers.Conv2D(options.whitening, PATCH, kernel_initializer="zeros", dtype="float32", name="whitening")(images)
    x = activation("whitening_activation")(x)
    for number, (width, depth) in enumerate(zip(options.widths, options.depths, strict=True), 1):
        x = convolution(width, f"convolution_{number}a")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
        x = first = activation(f"activation_{number}a")(norm(f"norm_{number}a")(x))
        for place in "bcd"[: depth - 1]:
            x = norm(f"norm_{number}{place}")(convolution(width, f"convolution_{number}{place}")(x))
            if depth >= options.skip_from and place == "abcd"[depth - 1]:
                x = layers.Add(name=f"skip_{number}")([x, first])
            x = activation(f"activation_{number}{place}")(x)
    x = layers.GlobalMaxPooling2D(name="maximum")(x)
    logits = layers.Dense(class_count, use_bias=False, kernel_initializer="random_uniform", name="head")(x)
    return layers.Rescaling(1 / options.widths[-1], dtype="float32", name="scale")(logits)


def _pass_through(kernel: Any) -> None:
    """Make the first filters of a convolution pass a channel through each (Dirac); the others stay as they are."""
    values = kernel.numpy()
    through = min(values.shape[2:])
    values[..., :through] = 0
    values[values.shape[0] // 2, values.shape[1] // 2, np.arange(through), np.arange(through)] = 1
    kernel.assign(values)
