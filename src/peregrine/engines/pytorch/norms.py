"""Batch norms over all ranks, so that the batch size means the same for any number of them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peregrine.engines.pytorch.distributed import World


def synchronise(network: nn.Module, world: World) -> None:
    """Let every batch norm of a network take its statistics over all ranks while it trains.

    Weights, statistics and their names stay. GPUs get PyTorch's own layer, whose passes are fused; it refuses CPUs.
    """
    if world.ranks == 1:
        return
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                on_gpu = world.device.type == "cuda"
                convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
                setattr(parent, name, convert(norm, world.group) if on_gpu else SynchronisedNorm(norm, world))


class SynchronisedNorm(nn.BatchNorm2d):
    """`norm` with its own weights and statistics, but over all ranks while training."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training
        self._world = world

    def forward(self, images: Tensor) -> Tensor:
        """Float `(N, C, H, W)` to the same shape and type."""
        if not self.training:
            return super().forward(images)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        count, mean, variance = statistics(images, self._world)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)  # unbiased, as PyTorch keeps it
        normalise: Callable[..., Tensor] = _Normalise.apply
        return normalise(images, self.weight, self.bias, mean, variance, count, self.eps, self._world)


@torch.no_grad()
def statistics(images: Tensor, world: World) -> tuple[float, Tensor, Tensor]:
    """How many values each channel has over all ranks, whose parts may be unequal; their mean and biased variance.

    Args:
        images: float `(N, C, H, W)`, this rank's part.

    Returns:
        The number, and float32 `(C,)` twice.
    """
    variance, mean = torch.var_mean(images.float(), (0, 2, 3), correction=0)
    mine = torch.stack([torch.full_like(mean, images.numel() / images.shape[1]), mean, variance])
    everyone = mine.new_zeros(world.ranks, *mine.shape)
    everyone[world.rank] = mine
    counts, means, variances = world.add_up(everyone).unbind(1)
    # Each rank's spread around its own mean, and that of the means: the mean of squares would lose digits.
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return float(total[0]), mean, (counts * (variances + (means - mean) ** 2)).sum(0) / total


class _Normalise(torch.autograd.Function):
    """Normalising with a mean and a variance that depend on the images of all ranks.

    Source of the backward pass: Ioffe and Szegedy 2015, section 3, its two sums taken over all ranks.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: float,
        eps: float,
        world: World,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, (variance + eps).rsqrt())
        ctx.count, ctx.world = count, world
        return F.batch_norm(images, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, scale = ctx.saved_tensors
        upstream = gradient.float()
        normalised = (images.float() - _as_channels(mean)) * _as_channels(scale)
        sums = torch.stack([upstream.sum((0, 2, 3)), (upstream * normalised).sum((0, 2, 3))])
        bias_gradient, weight_gradient = sums.clone()  # this rank's part, as of every weight
        shift, stretch = ctx.world.add_up(sums) / ctx.count
        change = upstream - _as_channels(shift) - normalised * _as_channels(stretch)
        images_gradient = (change * _as_channels(weight * scale)).to(images.dtype)
        return images_gradient, weight_gradient, bias_gradient, None, None, None, None, None


def _as_channels(values: Tensor) -> Tensor:
    """`(C,)` to `(C, 1, 1)`."""
    return values[:, None, None]
