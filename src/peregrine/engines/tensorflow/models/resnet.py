"""`resnet`: the residual network for CIFAR, with normalisation and ReLU before each convolution.

Shapes at 32 pixels, width 16 and depth 20, without N:
    images      32 32   3
    stem        32 32  16     convolution 3×3
    stage 1     32 32  16     3 blocks of two convolutions 3×3 and a sum
    stage 2     16 16  32     the first block has stride 2
    stage 3      8  8  64     likewise
    pool              64      batch norm, ReLU, mean over the pixels
    head               C      dropout, dense

Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, and for CIFAR "Deep Residual
Learning for Image Recognition", arXiv:1512.03385, section 4.2. Where the width changes, the latter pads with zeros what
goes past a block; here it is a convolution 1×1 of every other pixel, 2,560 weights at depth 20. Runtimes fuse the sum
with it; padded channels stay an operation of their own.
"""

from typing import Annotated, Any

from pydantic import Field, field_validator

from peregrine.engines.tensorflow.library import keras
from peregrine.validation import Fraction, Table

ANY_SIZE = True

STAGES = 3
MOMENTUM = 0.9  # with Keras' 0.99 the running statistics lag behind the weights, see `cnn`


class Options(Table):
    """Sizes and regularisation of the network.

    Attributes:
        depth: layers with weights, `6 n + 2` with n blocks in each stage.
        width: channels of the first stage; each later one has twice those of the one before.
        dropout: fraction of the pooled features that a training step leaves out.
        l2: what the loss gains per squared weight of the convolutions and the head.
    """

    depth: int = 20
    width: Annotated[int, Field(ge=1)] = 16
    dropout: Fraction = 0.3
    l2: Annotated[float, Field(ge=0)] = 1e-4

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if depth < 8 or depth % 6 != 2:
            raise ValueError("must be 6 n + 2 with n blocks in each stage: 8, 14, 20, 26, 32, 44, 56, 110 and so on")
        return depth


def smallest_input(options: Options) -> int:
    """Two stages halve the side, and the last one needs a pixel."""
    return 4


def build(options: Options, images: Any, class_count: int) -> Any:
    """Stack the layers.

    Args:
        images: symbolic float `(N, H, W, 3)`, normalised.

    Returns:
        Symbolic float32 `(N, class_count)`.
    """
    layers = keras.layers
    x = _convolution(options, images, options.width, 3, 1, "stem")
    for stage in range(STAGES):
        for number in range((options.depth - 2) // 6):
            stride = 2 if stage > 0 and number == 0 else 1
            name = f"block_{stage + 1}_{number + 1}"
            x = _block(options, x, options.width << stage, stride, number == 0, name)
    x = _activated(x, "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(options.dropout, name="dropout")(x)
    return layers.Dense(class_count, kernel_regularizer=_penalty(options), dtype="float32", name="head")(x)


def _block(options: Options, x: Any, width: int, stride: int, first: bool, name: str) -> Any:
    """What goes past the convolutions is the sum as it came, but in a stage's first block it is activated before."""
    activated = _activated(x, f"{name}_1")
    past = activated if first else x
    if stride != 1:
        # A 1×1 convolution with this stride sees every other pixel, too. But with fewer than 16 channels oneDNN 3.7, in
        # TensorFlow 2.21, writes beyond its memory when it takes the gradient of its weights, and the process dies.
        past = keras.layers.MaxPooling2D(1, stride, name=f"{name}_every_other_pixel")(past)
        past = _convolution(options, past, width, 1, 1, f"{name}_shortcut")
    x = _convolution(options, activated, width, 3, stride, f"{name}_convolution_1")
    x = _activated(x, f"{name}_2")
    x = _convolution(options, x, width, 3, 1, f"{name}_convolution_2")
    return keras.layers.Add(name=f"{name}_sum")([x, past])


def _activated(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _convolution(options: Options, x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
    """Without a bias: a batch norm comes after it, sooner or later, and has one."""
    return keras.layers.Conv2D(
        width,
        kernel,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=_penalty(options),
        name=name,
    )(x)


def _penalty(options: Options) -> Any:
    return keras.regularizers.L2(options.l2) if options.l2 else None
