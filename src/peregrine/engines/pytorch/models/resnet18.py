"""`resnet18`: the residual network of 18 layers, with torchvision's names, so that weights trained elsewhere fit.

Shapes at 224 pixels with the stem `imagenet`, without N:
    images          3  224 224     normalised
    conv1, bn1     64  112 112     convolution 7×7 with stride 2, norm, ReLU
    maxpool        64   56  56     3×3 with stride 2
    layer1         64   56  56     2 blocks: convolution 3×3, norm, ReLU, convolution 3×3, norm, sum, ReLU
    layer2        128   28  28     the first block has stride 2, and a convolution 1×1 with a norm beside it
    layer3        256   14  14     likewise
    layer4        512    7   7     likewise
    mean          512
    fc              C

The stem `cifar` is a convolution 3×3 with stride 1 and no pooling, for images of 32 pixels or so: 32 in layer1, 4 in
layer4, and fifteen times the work.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385; names and first weights are
those of `torchvision.models.resnet18`.
"""

import copy
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from peregrine.dataset import Images
from peregrine.engines.pytorch import pretrained
from peregrine.engines.pytorch.convolution import Convolution3x3
from peregrine.engines.pytorch.models.base import IMAGENET, Network, Standard
from peregrine.validation import Table

WIDTHS = (64, 128, 256, 512)
HEAD = "fc"


class Options(Table):
    """The start of the network, and of its weights.

    Attributes:
        stem: `imagenet` for images of 64 pixels or more, `cifar` for smaller ones.
        weights: `none` begins with random ones; else the path of a state dict (.safetensors, .pth), or
            `hf://owner/name` or `hf://owner/name/file` on the Hugging Face hub. The head is fresh where the number of
            classes is another.
        pixels: how they are standardised: `imagenet` as torchvision's weights know them, `data` by the mean and the
            deviation of the training images; `auto` is the one with weights and the other without.
    """

    stem: Literal["imagenet", "cifar"] = "imagenet"
    weights: Annotated[str, Field(min_length=1)] = "none"
    pixels: Literal["auto", "imagenet", "data"] = "auto"


def smallest_input(options: Options) -> int:
    """Padding leaves a pixel of any image."""
    return 1


def resolve(options: Options, images: Images) -> Options:
    """Fetch the weights, see that they fit, and fill in `pixels` and which version of the hub's file it was.

    Raises:
        RecipeError: there is no such file, or it is of another network.
        DamagedFile: the file cannot be opened as weights and nothing else.
        MissingDependency: weights from the hub need the extra `hub`.
        MachineError: the hub cannot be reached.
    """
    weights = options.weights
    if weights != "none":
        weights, path = pretrained.locate(weights)
        with torch.device("meta"):
            network = ResNet18(options, class_count=1)
        pretrained.check(network, pretrained.read(path), path, HEAD, _hint)
    pixels = options.pixels if options.pixels != "auto" else "data" if weights == "none" else "imagenet"
    return options.model_copy(update={"weights": weights, "pixels": pixels})


def build(options: Options, image_size: int, class_count: int) -> "ResNet18":
    """A network with fresh weights from the global generator; it takes images of any size."""
    return ResNet18(options, class_count)


class ResNet18(Network):
    """The network with random weights, until `fit` or a checkpoint brings others."""

    def __init__(self, options: Options, class_count: int) -> None:
        super().__init__()
        self._options = options
        if options.stem == "imagenet":
            self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = Convolution3x3(3, WIDTHS[0])
        self.bn1: nn.Module = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = nn.Sequential(Block(WIDTHS[0], WIDTHS[0], 1), Block(WIDTHS[0], WIDTHS[0], 1))
        self.layer2 = nn.Sequential(Block(WIDTHS[0], WIDTHS[1], 2), Block(WIDTHS[1], WIDTHS[1], 1))
        self.layer3 = nn.Sequential(Block(WIDTHS[1], WIDTHS[2], 2), Block(WIDTHS[2], WIDTHS[2], 1))
        self.layer4 = nn.Sequential(Block(WIDTHS[2], WIDTHS[3], 2), Block(WIDTHS[3], WIDTHS[3], 1))
        self.fc = nn.Linear(WIDTHS[3], class_count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def standard(self) -> Standard | None:
        """ImageNet's, where the weights know no other."""
        return IMAGENET if self._options.pixels == "imagenet" else None

    def fit(self, images: Tensor) -> None:
        """Take the weights of the recipe's file; raises what `resolve` does."""
        if self._options.weights != "none":
            _, path = pretrained.locate(self._options.weights)
            weights = pretrained.read(path)
            pretrained.check(self, weights, path, HEAD, _hint)
            pretrained.fill(self, weights, path, HEAD)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if self._options.stem == "imagenet":
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # modules give Any

    def folded(self) -> Self:
        """Each norm becomes part of its convolution."""
        copied = copy.deepcopy(self)
        copied.conv1, copied.bn1 = _fused(copied.conv1, copied.bn1)
        for module in copied.modules():
            if isinstance(module, Block):
                module.fold()
        return copied


class Block(nn.Module):
    """Float `(N, I, H, W)` to `(N, O, H/stride, W/stride)`, rounded up."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = Convolution3x3(inside, out, stride)
        self.bn1: nn.Module = nn.BatchNorm2d(out)
        self.conv2: nn.Conv2d = Convolution3x3(out, out)
        self.bn2: nn.Module = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + past, inplace=True)

    def fold(self) -> None:
        """Make the norms part of their convolutions."""
        self.conv1, self.bn1 = _fused(self.conv1, self.bn1)
        self.conv2, self.bn2 = _fused(self.conv2, self.bn2)
        if self.downsample is not None:
            self.downsample = nn.Sequential(*_fused(*self.downsample))


def _fused(convolution: nn.Module, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, norm), nn.Identity()


def _hint(name: str, found: Sequence[int]) -> str:
    """What to do about a weight of another shape."""
    if name != "conv1.weight":
        return "give model.weights another file"
    return f"use --set model.stem={'imagenet' if found[-1] == 7 else 'cifar'}"
