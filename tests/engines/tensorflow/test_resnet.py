"""The network against the paper's tables."""

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from typing import Any

from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.models import resnet
from peregrine.engines.tensorflow.models.resnet import Options
from peregrine.errors import RecipeError
from peregrine.validation import validate

pytestmark = pytest.mark.tensorflow


def model(side: int | None = 32, classes: int = 10, **options: Any) -> Any:
    image = keras.Input((side, side, 3))
    return keras.Model(image, resnet.build(Options(**options), image, classes))


def weights(depth: int, width: int, classes: int) -> int:
    """Layer by layer: kernels without biases, four numbers per channel of a norm, the head with biases."""
    total, channels = 3 * 9 * width, width
    for stage in range(3):
        for block in range((depth - 2) // 6):
            wider = width * 2**stage
            total += 4 * channels + 9 * channels * wider + 4 * wider + 9 * wider * wider
            total += channels * wider if stage and not block else 0
            channels = wider
    return total + 4 * channels + channels * classes + classes


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_has_as_many_weights_as_the_papers_network(depth: int, millions: float) -> None:
    """Table 6 of arXiv:1512.03385, whose shortcuts have none."""
    assert weights(depth, 16, 10) == pytest.approx(millions * 1e6, rel=0.025)
    if depth < 50:
        assert model(depth=depth).count_params() == weights(depth, 16, 10)


def test_width_depth_and_classes_can_be_set() -> None:
    assert model(depth=8, width=5, classes=3).count_params() == weights(8, 5, 3)


def test_the_depth_counts_layers_with_weights_but_shortcuts() -> None:
    layers = [layer for layer in model(depth=14).layers if layer.name.endswith(("stem", "head", "tion_1", "tion_2"))]
    assert len(layers) == 14


def test_normalises_and_activates_before_each_convolution_but_the_stem() -> None:
    for layer in model(depth=14).layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "stem":
            relu = layer.input._keras_history.operation
            if isinstance(relu, keras.layers.MaxPooling2D):  # every other pixel, for a shortcut
                assert (relu.pool_size, relu.strides) == ((1, 1), (2, 2))
                relu = relu.input._keras_history.operation
            assert isinstance(relu, keras.layers.ReLU)
            assert isinstance(relu.input._keras_history.operation, keras.layers.BatchNormalization)


def test_takes_images_of_any_size_from_four_pixels_on() -> None:
    smallest = resnet.smallest_input(Options())
    assert smallest == 4
    assert model(smallest, depth=8, width=4)(np.zeros((2, smallest, smallest, 3))).shape == (2, 10)
    assert resnet.ANY_SIZE
    free = model(None, depth=8, width=4)
    assert free(np.zeros((2, 9, 9, 3))).shape == free(np.zeros((2, 16, 16, 3))).shape


def test_no_convolution_of_one_pixel_has_a_stride() -> None:
    """With few channels, the gradient of its weights is memory corruption in oneDNN 3.7."""
    layers = [layer for layer in model(depth=8, width=4).layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.strides for layer in layers if layer.kernel_size == (1, 1)} == {(1, 1)}


def test_the_penalty_is_on_convolutions_and_head() -> None:
    network = model(depth=8, width=4, l2=0.01)
    kernels = [weight for weight in network.weights if weight.name == "kernel"]
    assert len(kernels) == 7 + 2 + 1
    expected = 0.01 * sum(float(np.square(kernel.numpy()).sum()) for kernel in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)
    assert model(depth=8, width=4, l2=0.0).losses == []


def test_dropout_stands_before_the_head() -> None:
    network = model(depth=8, width=4, dropout=0.4)
    dropout = network.get_layer("head").input._keras_history.operation
    assert (dropout.name, dropout.rate) == ("dropout", 0.4)
    assert Options().dropout == 0.3


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(
        RecipeError, match=rf"depth must be 6 n \+ 2 with n blocks in each stage: 8, 14, .*; got {depth}"
    ):
        validate(Options, {"depth": depth}, "recipe tiny, [model]")
