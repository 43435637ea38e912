import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import torch
from torch import Tensor, nn
from torch.nn import functional

import making
import torch_ancestor
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.divergence import explain_task
from peregrine.engines.tensorflow.checkpoint import load_model, save_model
from peregrine.engines.tensorflow.library import keras
from peregrine.errors import CheckFailed
from peregrine.export.base import convert_task
from peregrine.export.torch_to_keras import port, trace

pytestmark = [pytest.mark.torch, pytest.mark.tensorflow]


def converted(ancestor: Artifact) -> Artifact:
    path = ancestor.path.with_name("keras")
    convert_task("torch_to_keras", str(ancestor.path), str(path), "keras")
    return Artifact.open(path)


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return torch_ancestor.write(tmp_path_factory.mktemp("artifacts") / "torch")


@pytest.fixture(scope="module")
def exported(ancestor: Artifact) -> Artifact:
    return converted(ancestor)


def largest_difference(first: Artifact, second: Artifact, images: "making.Images") -> float:
    with default_candidate(first).open() as one, default_candidate(second).open() as other:
        return float(np.abs(one.predict(images) - other.predict(images)).max(initial=0))


@pytest.mark.parametrize("count", [0, 1, 7, 333])
def test_answers_like_its_ancestor_in_any_batch(ancestor: Artifact, exported: Artifact, count: int) -> None:
    assert largest_difference(ancestor, exported, making.images(count, 12, seed=1)) < 1e-5


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (20, {"widths": [8, 16, 16], "activation": "silu", "whitening": 8, "temperature": 0.4}),
        (33, {"widths": [12], "activation": "relu"}),
        (16, {"depth": 3, "activation": "hard-swish"}),
        (64, {"widths": [6, 8, 10], "depth": [1, 2, 4], "skip_from": 2, "temperature": 1.0}),
        (3, {"widths": [8, 8, 8]}),  # the last groups have one pixel, and do not pool
        (32, {"name": "resnet18"}),
        (45, {"name": "resnet18"}),  # strides from odd and even sides
        (9, {"name": "resnet18", "stem": "cifar"}),
    ],
)
def test_other_networks_and_sizes(tmp_path: Path, size: int, options: dict[str, Any]) -> None:
    ancestor = torch_ancestor.write(tmp_path / "torch", size, **options)
    assert largest_difference(ancestor, converted(ancestor), making.images(7, size, seed=1)) < 1e-5


def test_the_graph_keeps_the_contract(exported: Artifact) -> None:
    model = load_model(exported.model_path)
    (images,), (probabilities,) = model.inputs, model.outputs
    assert (images.name, images.dtype, images.shape) == ("images", "uint8", (None, 12, 12, 3))
    assert (probabilities.dtype, probabilities.shape) == ("float32", (None, 3))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[:2] == ["InputLayer", "Rescaling"]
    assert "BatchNormalization" not in kinds
    assert model.name == "sprint"
    assert {type(layer).__module__.partition(".")[0] for layer in model.layers} == {"keras"}  # no code of ours
    assert list(exported.manifest.files) == ["model.keras"]
    assert exported.manifest.notes["producer"].startswith("torch 2.")
    with zipfile.ZipFile(exported.model_path) as content:
        assert str(Path.home()).encode() not in content.read("config.json")


def test_only_what_keras_pads_in_another_way_has_a_layer_for_it(tmp_path: Path) -> None:
    """With a side of 32 every stride meets an even side; the converters know convolutions that pad "same" best."""
    model = load_model(converted(torch_ancestor.write(tmp_path / "torch", 32, name="resnet18")).model_path)
    strided = [layer for layer in model.layers if getattr(layer, "strides", (1, 1)) != (1, 1)]
    padding = [layer for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert [layer.padding for layer in padding] == [((3, 2), (3, 2)), *[((1, 0), (1, 0))] * 4]
    assert len(strided) == 8


# ---- single operations -----------------------------------------------------------------------------------------------


def differs_by(module: nn.Module, *shape: int) -> float:
    """Largest difference between a module and its port, for noise."""
    torch.manual_seed(0)
    x = torch.randn(2, *shape)
    program = trace(module.eval(), x)
    images = keras.Input((*shape[1:], shape[0]))
    ported = keras.Model(images, port(program, images))
    with torch.no_grad():
        expected = module(x).numpy()
    given = ported(x.numpy().transpose(0, 2, 3, 1)).numpy()
    if given.ndim == 4:
        given = given.transpose(0, 3, 1, 2)
    assert given.shape == expected.shape
    return float(np.abs(given - expected).max())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    (1, 1, 0), (1, 2, 0), (2, 1, 1), (2, 2, 0), (2, 2, 1), (3, 1, 0), (3, 1, 1), (3, 2, 0), (3, 2, 1),
    (3, 3, 2), (4, 2, 1), (5, 1, 2), (5, 4, 2), (7, 2, 3), ((3, 1), (1, 2), (2, 0)),
])  # fmt: skip
def test_a_convolution_pads_as_in_pytorch(kernel: Any, stride: Any, padding: Any) -> None:
    assert differs_by(nn.Conv2d(3, 4, kernel, stride, padding), 3, 8, 9) < 1e-5


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 1, 1), (3, 2, 0), (3, 3, 1)]
)
def test_a_maximum_pads_as_in_pytorch(kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
    pool = nn.Sequential(nn.ReLU(), nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode))
    assert differs_by(pool, 3, 8, 9) == 0


class Applied(nn.Module):
    """A module of one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)  # type: ignore[no-any-return]  # a test's


class Scaled(nn.Conv2d):
    """A convolution whose weights are computed."""

    def __init__(self) -> None:
        super().__init__(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight / 2)


@pytest.mark.parametrize(
    "function",
    [
        functional.relu,
        functional.gelu,
        functional.silu,
        functional.hardswish,
        lambda x: x.mean((2, 3)),
        lambda x: x.mean((-1, -2), keepdim=True),
        lambda x: x.amax((2, 3)),
        lambda x: x + functional.relu_(x + x),
        lambda x: x / 3,
        lambda x: functional.max_pool2d(x, 2),
    ],
)
def test_an_operation(function: Any) -> None:
    assert differs_by(Applied(function), 3, 5, 6) < 1e-6


def test_a_norm_that_is_not_folded_is_a_layer() -> None:
    """As in a network that has nothing to say to `folded`, such as that of docs/adding-a-model.md."""
    norm = nn.BatchNorm2d(3, eps=0.01)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            value.copy_(torch.rand(3) + 0.5)
    assert differs_by(norm, 3, 4, 4) < 1e-6


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.sigmoid(), r"aten\.sigmoid\.default cannot become a layer of Keras: there is none for it; change"),
        (lambda x: functional.gelu(x, approximate="tanh"), r"aten\.gelu\.default cannot become .*: .*'approximate'"),
        (
            lambda x: functional.max_pool2d(x, 2, padding=1),
            r"aten\.max_pool2d\.default .* only behind a ReLU; change the",
        ),
        (lambda x: functional.max_pool2d(x, 2, 2, 0, 2), r"aten\.max_pool2d\.default .*: dilation \[2, 2\] is not 1"),
        (
            nn.Conv2d(3, 3, 1, groups=3),
            r"aten\.conv2d\.default .*: groups 3 and dilation \[1, 1\] are not 1",
        ),
        (lambda x: x.mean((1, 2)), r"aten\.mean\.dim .*: it goes over the axes \[1, 2\], not over height and width"),
        (lambda x: x + x.mean((2, 3), keepdim=True), r"aten\.add\.Tensor .* two layers' values of one shape"),
        (lambda x: x + 1, r"aten\.add\.Tensor .* two layers' values of one shape"),
        (lambda x: x.add(x, alpha=2), r"aten\.add\.Tensor .*'alpha'"),
        (nn.Linear(8, 2), r"aten\.linear\.default in _function .*: what it multiplies has pixels"),
        (Scaled(), r"aten\.div\.Tensor in _function .*: it computes with weights alone"),
        (lambda x: x / x, r"aten\.div\.Tensor .*: it divides by something else than a number"),
    ],
)
def test_what_is_not_known_is_named(function: Any, message: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{message}") as caught:
        differs_by(Applied(function), 3, 8, 8)
    assert "\n" not in str(caught.value)


def test_the_part_of_the_network_is_named() -> None:
    with pytest.raises(CheckFailed, match=r"^aten\.tanh\.default in 1 cannot become"):
        differs_by(nn.Sequential(nn.ReLU(), nn.Tanh()), 3, 4, 4)


# ---- when it goes wrong ----------------------------------------------------------------------------------------------


def test_every_broken_layer_is_named(ancestor: Artifact, exported: Artifact, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, ancestor.golden().images)
    whole = load_model(exported.model_path)
    heavy = [layer.name for layer in whole.layers if layer.weights]
    assert len(heavy) == 6
    reference = default_candidate(ancestor).to_dict()
    assert explain_task(default_candidate(exported).to_dict(), reference, str(images))["first"] is None
    for name in heavy:
        model = load_model(exported.model_path)
        layer = model.get_layer(name)
        kernel, *bias = layer.get_weights()
        layer.set_weights([kernel[..., ::-1], *bias])
        like = {**exported.inherited(), "parent": ancestor.id, "ancestor": ancestor.id}
        with Artifact.write(tmp_path / "broken", format="keras", like=like, golden=exported.golden()) as folder:
            save_model(model, folder / "model.keras")
        broken = default_candidate(Artifact.open(tmp_path / "broken"))
        first = explain_task(broken.to_dict(), reference, str(images))["first"]
        assert (first["name"], first["operation"]) == (name, type(layer).__name__)
        shutil.rmtree(tmp_path / "broken")
