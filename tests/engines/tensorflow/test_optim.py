"""Muon in Keras is the Muon of PyTorch's engine: the same numbers after one step and after several."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine import recipe
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.optim import Muon, build, optimizer, orthogonalise, set_share

pytestmark = pytest.mark.tensorflow
SHAPES = {"whitening": (24,), "convolution": (3, 3, 24, 32), "wide": (3, 3, 2, 48), "bias": (32,), "head": (32, 10)}
CHOICE = recipe.Muon(learning_rate=0.2, weight_decay=1e-3)


def values(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def to_torch(name: str, value: Any) -> Any:
    import torch

    if value.ndim == 4:
        return torch.from_numpy(value.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=torch.channels_last)
    return torch.from_numpy(value.T.copy() if name == "head" else value)


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_equal_pytorchs(steps: int) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from peregrine.engines.pytorch.optim import optimizers, set_rates

    ours = {name: keras.Variable(value, name=name) for name, value in values(0).items()}
    made = optimizer(CHOICE, batch_size=50, product="float32")
    build(made, list(ours.values()))
    module = torch.nn.ParameterDict({name: torch.nn.Parameter(to_torch(name, v)) for name, v in values(0).items()})
    theirs = optimizers(module, CHOICE, 50, torch.float32)
    for step in range(steps):
        gradients = values(step + 1)
        factor = 1 - step / 4
        made.learning_rate.assign(factor * CHOICE.learning_rate)
        made.apply([tf.constant(gradients[name]) for name in ours], list(ours.values()))
        set_rates(theirs, factor)
        for name, weight in module.items():
            weight.grad = to_torch(name, gradients[name])
        for one in theirs:
            one.step()
    for name, weight in ours.items():
        expected = to_torch(name, weight.numpy())
        torch.testing.assert_close(
            module[name].detach(), expected, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_step_of_fewer_images_is_a_step_of_a_smaller_batch() -> None:
    """What is per image goes by the images that are there."""
    after = []
    for batch_size, share in ((50, 0.2), (10, 1.0)):
        weights = [keras.Variable(value) for value in values(0).values()]
        made = optimizer(CHOICE, batch_size, "float32")
        build(made, weights)
        set_share(made, share)
        made.apply([tf.constant(value) for value in values(1).values()], weights)
        after.append([weight.numpy() for weight in weights])
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 90), (90, 16), (32, 32)])
def test_orthogonalised_singular_values_are_about_one(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = np.linalg.svd(orthogonalise(tf.constant(matrix), tf.float32, iterations=6).numpy(), compute_uv=False)
    assert found.min() > 0.6
    assert found.max() < 1.3


def test_what_has_one_axis_does_not_decay() -> None:
    weights = [keras.Variable(np.ones(shape, np.float32)) for shape in ((4,), (4, 4))]
    made = optimizer(recipe.AdamW(learning_rate=0.5, weight_decay=0.1), 8, "float32")
    build(made, weights)
    made.apply([tf.zeros([4]), tf.zeros([4, 4])], weights)
    assert weights[0].numpy().tolist() == [1] * 4
    np.testing.assert_allclose(weights[1], np.full((4, 4), 0.95), rtol=1e-6)


def test_sgd_is_kerass_with_nesterov() -> None:
    made = optimizer(recipe.SGD(learning_rate=0.1, momentum=0.5), 8, "float32")
    weight = keras.Variable([1.0])
    build(made, [weight])
    for _ in range(2):
        made.apply([tf.constant([1.0])], [weight])
    assert weight.numpy() == pytest.approx([1 - 0.1 * 1.5 - 0.1 * (1 + 0.5 * 1.5)])


def test_a_saved_muon_comes_back() -> None:
    made = optimizer(CHOICE, 50, "bfloat16")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is Muon
    assert again.get_config() == made.get_config()
