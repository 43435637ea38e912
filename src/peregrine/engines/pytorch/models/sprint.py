"""`sprint`: whitened 2×2 patches, groups of convolutions, global max-pooling, a linear head.

Shapes: K whitening filters, groups of widths W1 to WG, without N:
    images      3        H      W         normalised
    whitening   K       H-1    W-1        2×2 filters from the data, a learned bias, activation
    group 1     W1    (H-1)/2  (W-1)/2    convolution 3×3, max-pool, norm, activation; convolution 3×3, norm, activation
    …
    group G     WG
    maximum     WG
    head        C                         linear without bias, divided by WG

With other depths the second half of a group is there one time less often than its depth; see `Options` for the skip.

Source: the shape and its start follow airbench94_muon, and groups of three airbench96
(github.com/KellerJordan/cifar10-airbench), which build on hlb-CIFAR10 (github.com/tysam-code/hlb-CIFAR10).
"""

import copy
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from peregrine.engines.pytorch.convolution import Convolution3x3
from peregrine.engines.pytorch.models.base import Network
from peregrine.engines.sprint import PATCH, Activation, Options
from peregrine.engines.sprint import resolve as resolve
from peregrine.engines.whitening import whitening_filters
from peregrine.errors import RecipeError

_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "hard-swish": lambda: nn.Hardswish(inplace=True),
}


def smallest_input(options: Options) -> int:
    """Groups do not pool below one pixel, so only the whitening needs room."""
    return PATCH


def build(options: Options, image_size: int, class_count: int) -> "Sprint":
    """A network with fresh weights from the global generator; it takes images of any size."""
    return Sprint(options, class_count)


class Sprint(Network):
    """The network. Its whitening filters are zero until `fit` or a checkpoint brings them.

    Raises:
        RecipeError: `options` are not resolved.
    """

    def __init__(self, options: Options, class_count: int) -> None:
        super().__init__()
        if options.whitening == "auto":
            raise RecipeError("model.whitening is a number in a resolved recipe; got 'auto'")
        inside = (options.whitening, *options.widths)
        activation = _ACTIVATIONS[options.activation]
        self.whitening = nn.Conv2d(3, options.whitening, PATCH)
        self.activation = activation()
        groups = zip(inside, options.widths, options.depths, strict=False)  # the last width is inside of nothing
        self.groups = nn.Sequential(*(Group(*sizes, options.skip_from, activation) for sizes in groups))
        self.head = nn.Linear(options.widths[-1], class_count, bias=False)
        self._whitening_bias_share = options.whitening_bias
        with torch.no_grad():
            self.whitening.weight.zero_().requires_grad_(False)
            self._whitening_bias.zero_()
            self.head.weight.div_(self.head.weight.std())

    @property
    def _whitening_bias(self) -> Tensor:
        assert self.whitening.bias is not None
        return self.whitening.bias

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the whitening filters from the images."""
        filters = whitening_filters(images.permute(0, 2, 3, 1).numpy(), PATCH, self.whitening.out_channels)
        self.whitening.weight.copy_(torch.from_numpy(filters))

    def before_step(self, progress: float) -> None:
        """Let the whitening bias rest after its share of the run."""
        if progress >= self._whitening_bias_share and self._whitening_bias.requires_grad:
            self._whitening_bias.requires_grad_(False)
            self._whitening_bias.grad = None

    def forward(self, images: Tensor) -> Tensor:
        x = self.groups(self._stem(images))
        if torch.compiler.is_dynamo_compiling():
            # The backward pass looks for the maximum among the values. What is compiled in one piece works them out
            # once more, rounded in another way; where none is the maximum, gradients are NaN (PyTorch 2.13, bf16).
            torch._dynamo.graph_break()
        return self.head(x.amax((2, 3))) / self.head.in_features  # type: ignore[no-any-return]  # modules give Any

    def folded(self) -> Self:
        """Each norm becomes part of its convolution."""
        copied = copy.deepcopy(self)
        for group in copied.groups:
            assert isinstance(group, Group)
            group.fold()
        return copied

    def _stem(self, images: Tensor) -> Tensor:
        """Whiten in float32 whatever the precision: a bf16 2×2 convolution was wrong (pytorch/pytorch #163347)."""
        device = images.device.type
        if not torch.is_autocast_enabled(device):
            return self.activation(self.whitening(images))  # type: ignore[no-any-return]  # as above
        with torch.autocast(device, enabled=False):
            x = self.whitening(images)
        return self.activation(x.to(torch.get_autocast_dtype(device)))  # type: ignore[no-any-return]  # as above


class Group(nn.Module):
    """Float `(N, I, H, W)` to `(N, O, H/2, W/2)`; a map of one pixel is not pooled further."""

    def __init__(self, inside: int, out: int, depth: int, skip_from: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._depth, self._skips = depth, depth >= skip_from
        for number in range(1, depth + 1):
            self.add_module(f"conv{number}", _identity_convolution(inside if number == 1 else out, out))
            self.add_module(f"norm{number}", Norm(out))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        (convolution, norm), *others = self._layers()
        x = convolution(x)
        if min(x.shape[2:]) > 1:
            x = F.max_pool2d(x, 2)
        x = first = self.activation(norm(x))
        for number, (convolution, norm) in enumerate(others, 2):
            x = norm(convolution(x))
            if self._skips and number == self._depth:
                x = x + first
            x = self.activation(x)
        return x

    def fold(self) -> None:
        """Make the norms part of their convolutions; a maximum and a norm with a positive scale can change places."""
        for number, (convolution, norm) in enumerate(self._layers(), 1):
            assert isinstance(norm, Norm)
            self.add_module(f"conv{number}", fuse_conv_bn_eval(convolution, norm))
            self.add_module(f"norm{number}", nn.Identity())

    def _layers(self) -> list[tuple[nn.Conv2d, nn.Module]]:
        numbers = range(1, self._depth + 1)
        return [(getattr(self, f"conv{number}"), getattr(self, f"norm{number}")) for number in numbers]


class Norm(nn.BatchNorm2d):
    """Batch norm with a scale of 1, because Muon fixes the norm of the convolution before it.

    A momentum of 0.4 lets the averages follow the weights, which move far in a step. eps is PyTorch's: the 1e-12 of
    airbench94 multiplies the rounding errors of a channel without variance by a million.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=0.4)
        self.weight.requires_grad_(False)


def _identity_convolution(inside: int, out: int) -> nn.Conv2d:
    """A 3×3 convolution whose first filters pass a channel through each (Dirac); the others start at random."""
    convolution = Convolution3x3(inside, out)
    nn.init.dirac_(convolution.weight.data[: min(inside, out)])
    return convolution
