"""Winograd's convolution gives what PyTorch's gives, and its gradients too."""

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine.engines.pytorch import winograd
from peregrine.engines.pytorch.convolution import Convolution3x3

pytestmark = pytest.mark.torch


def passes(tile: int, images: Tensor, weight: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of images and weights; tile 0 is PyTorch's convolution."""
    images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
    outputs = winograd.convolve(images, weight, tile) if tile else F.conv2d(images, weight, padding=1)
    slopes = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0), dtype=outputs.dtype)
    return [outputs.detach(), *torch.autograd.grad(outputs, (images, weight), slopes)]


@pytest.mark.parametrize("tile", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (4, 4), (5, 4), (7, 7), (6, 9)])
def test_agrees_with_a_convolution(shape: tuple[int, int], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_IMAGES", 2)  # three at once, and one
    torch.manual_seed(0)
    images, weight = torch.randn(3, 5, *shape, dtype=torch.float64), torch.randn(4, 5, 3, 3, dtype=torch.float64)
    for found, expected in zip(passes(tile, images, weight), passes(0, images, weight), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("tile", "most"), [(2, 0.007), (3, 0.025), (4, 0.035)])
def test_bf16_is_off_by_little(tile: int, most: float) -> None:
    torch.manual_seed(0)
    images, weight = F.silu(torch.randn(8, 64, 8, 8)), torch.randn(32, 64, 3, 3) / 24
    rounded = images.bfloat16()
    for found, exact in zip(passes(tile, rounded, weight), passes(0, rounded.float(), weight), strict=True):
        assert (found.float() - exact).norm() < most * exact.norm()
    assert passes(tile, rounded, weight)[2].dtype == torch.float32


def test_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, images = Convolution3x3(2, 3), torch.randn(4, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert "Winograd" not in str(ours(images).grad_fn)
        monkeypatch.setattr(winograd, "_FEWEST", 4 * 2 * 3)
        assert "Winograd" in str(ours(images).grad_fn)
        assert "Winograd" not in str(ours(images[:3]).grad_fn)
        assert "Winograd" not in str(ours(torch.randn(4, 2, 8, 8)).grad_fn)
        assert "Winograd" not in str(ours.eval()(images).grad_fn)
        assert "Winograd" not in str(Convolution3x3(2, 3, stride=2)(images).grad_fn)
    assert "Winograd" not in str(ours.train()(images).grad_fn)
