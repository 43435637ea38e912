"""Convolutions of small maps give what PyTorch's give, and their gradients too."""

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from torch import Tensor, nn

from peregrine.engines.pytorch import smallmaps
from peregrine.engines.pytorch.convolution import Convolution3x3

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FEWEST_LOW", "_FEWEST_FP32"):
        monkeypatch.setattr(smallmaps, name, dict.fromkeys(range(1, 5), 0))


def plain(convolution: Convolution3x3) -> nn.Conv2d:
    other = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, convolution.stride[0], 1, bias=False)
    other.load_state_dict(convolution.state_dict())
    return other.to(convolution.weight.dtype)


def passes(convolution: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of images and weights for a loss that tells all outputs apart."""
    images = images.clone().requires_grad_()
    outputs = convolution(images)
    outputs.backward(torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view(outputs.shape))
    assert images.grad is not None
    assert convolution.weight.grad is not None
    return [outputs.detach(), images.grad, convolution.weight.grad]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (2, 4), (3, 3), (4, 3), (4, 4), (5, 5)])
def test_agrees_with_a_convolution(shape: tuple[int, int], stride: int) -> None:
    torch.manual_seed(0)
    ours = Convolution3x3(3, 4, stride).double()
    images = torch.randn(2, 3, *shape, dtype=torch.float64)
    for found, expected in zip(passes(ours, images), passes(plain(ours), images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_outputs() -> None:
    ours = Convolution3x3(2, 3).double()
    images = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, (images,))


def test_bf16_gradients_of_weights_are_kept_in_fp32() -> None:
    torch.manual_seed(0)
    ours = Convolution3x3(16, 8)
    images = torch.randn(4, 16, 2, 2).to(memory_format=torch.channels_last)
    exact = passes(plain(ours), images)
    with torch.autocast("cpu", torch.bfloat16):
        found = passes(ours, images)
    assert found[0].dtype == torch.bfloat16
    assert found[2].dtype == torch.float32
    for value, expected in zip(found, exact, strict=True):
        assert (value.float() - expected).norm() < 0.02 * expected.norm()


def test_few_products_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, images = Convolution3x3(2, 3), torch.randn(4, 2, 2, 2, requires_grad=True)
    assert "_Products" in str(ours(images).grad_fn)
    monkeypatch.setattr(smallmaps, "_FEWEST_FP32", {2: 4 * 2 * 3 + 1})
    assert "Convolution" in str(ours(images).grad_fn)


def test_frozen_weights_get_no_gradient() -> None:
    ours = Convolution3x3(2, 3)
    ours.weight.requires_grad_(False)
    images = torch.randn(1, 2, 2, 2, requires_grad=True)
    ours(images).sum().backward()
    assert images.grad is not None
    assert ours.weight.grad is None


@pytest.mark.parametrize("side", [2, 5])
def test_is_a_plain_convolution_where_nothing_trains(side: int) -> None:
    ours = Convolution3x3(2, 3).eval()
    images = torch.randn(1, 2, side, side)
    assert torch.equal(ours(images), plain(ours)(images))
    nodes = torch.export.export(ours, (images,)).graph.nodes
    assert [str(node.target) for node in nodes if node.op == "call_function"] == ["aten.conv2d.default"]
