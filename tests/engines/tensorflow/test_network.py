"""From the trained model to the ancestor's graph."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine.dataset import channel_statistics
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.checkpoint import load_model, save_model
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.models import cnn
from peregrine.errors import DamagedFile
from peregrine.metrics import softmax
from peregrine.recipe import Recipe

pytestmark = pytest.mark.tensorflow
NORMALISATION = network.Normalisation([0.01, 0.02, 0.03], [-1.0, 0.5, 0.25])


def recipe(**model: Any) -> Recipe:
    return small_runs.recipe("tensorflow", {"input.size": 26, "model": {"name": "cnn", **model}})


def images(count: int, size: int = 26) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def trained(recipe: Recipe, precision: str = "fp32") -> Any:
    """A model whose weights and statistics are not the first ones."""
    model = network.trainable(recipe, 4, NORMALISATION, precision)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() + generator.uniform(0, 0.1, weight.shape))
    return model


def test_the_ancestors_graph_gives_the_softmax_of_the_trained_logits() -> None:
    model = trained(recipe())
    deployed = network.deployable(recipe(), 4, model, temperature=1.7)
    logits = model(images(9).astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(network.compiled(deployed, "logits")(images(9)), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(network.compiled(deployed, "probabilities")(images(9)), softmax(logits / 1.7), atol=1e-6)


def test_the_ancestor_is_float32_whatever_was_trained(tmp_path: Path) -> None:
    """Through the file, without any of our code: what TensorFlow's converters and everyone else will open."""
    model = trained(recipe(), "bf16")
    save_model(network.deployable(recipe(), 4, model, temperature=1.0), tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {layer.compute_dtype for layer in opened.layers if layer.weights} == {"float32"}
    assert opened.inputs[0].dtype == "uint8"
    assert opened.inputs[0].name == "images"
    assert opened.outputs[0].dtype == "float32"
    assert opened.layers[-1].name == "probabilities"
    assert [type(layer).__module__.split(".")[0] for layer in opened.layers] == ["keras"] * len(opened.layers)
    rough = softmax(model(images(5).astype(np.float32), training=False).numpy())
    np.testing.assert_allclose(opened(images(5)), rough, atol=0.05)


def test_the_first_weights_come_from_the_seed_and_leave_no_trace() -> None:
    state, policy = random.getstate(), keras.config.dtype_policy().name
    first, again, rough = (network.trainable(recipe(), 4, NORMALISATION, name) for name in ("fp32", "fp32", "bf16"))
    assert rough.get_layer("convolution_1").compute_dtype == "bfloat16"
    assert rough.get_layer("convolution_1").kernel.dtype == "float32"
    random.random()
    for one, other, third in zip(first.variables, again.variables, rough.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        np.testing.assert_array_equal(one.numpy(), third.numpy())
    for one, other in zip(first.weights, network.plain(recipe(), 4, NORMALISATION).weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    other_seed = network.trainable(recipe().changed({"seed": 1}), 4, NORMALISATION, "fp32")
    assert not np.array_equal(first.weights[0].numpy(), other_seed.weights[0].numpy())
    random.setstate(state)
    network.trainable(recipe(), 4, NORMALISATION, "bf16")
    assert random.getstate() == state
    assert keras.config.dtype_policy().name == policy


def test_normalisation_gives_mean_0_and_deviation_1_and_bears_a_flat_channel() -> None:
    pixels = images(50).copy()
    pixels[..., 2] = 7
    found = network.Normalisation.by(*channel_statistics(pixels))
    normalised = pixels * np.array(found.scale) + np.array(found.offset)
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), [1, 1, 0], atol=1e-6)


@pytest.mark.parametrize(("widths", "smallest"), [((32,), 4), ((32, 64, 128), 22)])
def test_the_smallest_input_of_cnn(widths: tuple[int, ...], smallest: int) -> None:
    options = cnn.Options(widths=widths, dense=(4,))
    assert cnn.smallest_input(options) == smallest
    model = keras.Model(image := keras.Input((smallest, smallest, 3)), cnn.build(options, image, 4))
    assert model(np.zeros((2, smallest, smallest, 3))).shape == (2, 4)
    with pytest.raises(ValueError, match=r"negative|Computed output size would be"):
        cnn.build(options, keras.Input((smallest - 1, smallest - 1, 3)), 4)


def test_cnn_is_the_classic_network() -> None:
    """The sum of the classic table: 93,248 in the convolutions, 896 in the norms, 329,610 in the dense layers."""
    image = keras.Input((32, 32, 3))
    assert keras.Model(image, cnn.build(cnn.Options(), image, 10)).count_params() == 93_248 + 896 + 329_610


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "best_model.keras").write_bytes(b"PK\x03\x04 no model")
    with pytest.raises(DamagedFile, match=r"best_model\.keras is not a Keras model of ours"):
        load_model(tmp_path / "best_model.keras")
