"""`sprint` in Keras is `sprint` in PyTorch: the same weights give the same logits, and the same start is taken."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine.dataset import channel_statistics
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.models import sprint
from peregrine.recipe import Recipe

pytestmark = pytest.mark.tensorflow
MODEL = {"name": "sprint", "widths": [6, 12, 20], "whitening": 24}


def recipe(**changes: Any) -> Recipe:
    return small_runs.recipe("tensorflow", {"model": MODEL, "input.size": 32, **changes})


def images(count: int, side: int = 32) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def built(**changes: Any) -> Any:
    made = recipe(**changes)
    return network.trainable(made, 4, network.normalisation(made, *channel_statistics(images(50))), "fp32", images(50))


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu", "depth": 2},
        {"activation": "silu", "depth": 1},
        {"activation": "relu", "depth": 3},
        {"activation": "hard-swish", "depth": 4},
        {"activation": "hard-swish", "depth": (2, 1, 3), "skip_from": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_the_same_weights_give_pytorchs_logits(options: dict[str, Any], training: bool) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from peregrine.engines.pytorch.models import sprint as theirs

    ours = built(**{f"model.{name}": value for name, value in options.items()})
    module = theirs.build(theirs.Options(widths=(6, 12, 20), whitening=24, **options), 32, 4)
    random = np.random.default_rng(1)
    with torch.no_grad():
        for layer in ours.layers:
            for variable in layer.variables:
                value = random.uniform(0.1, 1, variable.shape) if "variance" in variable.name else None
                value = random.normal(0, 0.3, variable.shape) if value is None else value
                variable.assign(value)
                _twin(module, layer.name, variable.name).copy_(_as_torch(variable))
    pixels = images(9).astype(np.float32)
    normalised = ours.get_layer("normalise")(pixels).numpy()
    module.train(training)
    with torch.no_grad():
        expected = module(torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())).numpy()
    scale = np.abs(expected).max()  # hundreds, and thousands in deep groups
    np.testing.assert_allclose(ours(pixels, training=training) / scale, expected / scale, rtol=1e-4, atol=1e-5)


def _twin(module: Any, layer: str, variable: str) -> Any:
    """PyTorch's tensor for a variable of ours."""
    kind, _, place = layer.partition("_")
    if kind in ("whitening", "head"):
        return getattr(getattr(module, kind), {"kernel": "weight", "bias": "bias"}[variable])
    group = module.groups[int(place[:-1]) - 1]
    part = getattr(group, {"convolution": "conv", "norm": "norm"}[kind] + str("abcd".index(place[-1]) + 1))
    names = {"kernel": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return getattr(part, names[variable])


def _as_torch(variable: Any) -> Any:
    import torch

    value = variable.numpy()
    return torch.from_numpy((value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T).copy())


def test_the_start_is_whitening_and_filters_that_pass_a_channel_through() -> None:
    model = built()
    kernel = model.get_layer("convolution_2a").kernel.numpy()
    expected = np.zeros((3, 3, 6, 6))
    expected[1, 1] = np.eye(6)
    np.testing.assert_array_equal(kernel[..., :6], expected)
    assert np.abs(kernel[..., 6:]).max() <= 1 / np.sqrt(54)
    assert kernel[..., 6:].std() > 0.05
    assert model.get_layer("head").kernel.numpy().std() == pytest.approx(1)
    whitened = model.get_layer("whitening")(model.get_layer("normalise")(images(50).astype(np.float32))).numpy()
    moments = np.cov(whitened.reshape(-1, 24)[:, :12].T)
    np.testing.assert_allclose(moments, np.eye(12), atol=0.02)


def test_it_takes_images_of_any_size() -> None:
    model = built(**{"input.growth": [[0.5, 24]]})
    assert model.input_shape == (None, None, None, 3)
    for side in (24, 32):
        assert model(images(2, side).astype(np.float32)).shape == (2, 4)
    assert sprint.smallest_input(sprint.Options(widths=(6, 12, 20))) == 9


def test_the_filters_never_learn_and_their_bias_only_at_first() -> None:
    first, rest = sprint.phases(sprint.Options(whitening_bias=0.2))
    assert (first.until, first.resting, rest.until, rest.resting) == (0.2, ("whitening/kernel",), 1.0, ("whitening",))
    assert [phase.resting for phase in sprint.phases(sprint.Options(whitening_bias=1.0))] == [("whitening/kernel",)]
