"""`Network`: what the training loop may ask of every network beyond being a module."""

from typing import NamedTuple, Self

from torch import Tensor, nn


class Standard(NamedTuple):
    """How pixels are standardised, per channel of RGB.

    Attributes:
        mean, std: in 0..255.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# What weights trained on ImageNet know, torchvision's as well as timm's.
IMAGENET = Standard((255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225))


class Network(nn.Module):
    """Normalised float images `(N, 3, H, W)` in, float logits `(N, C)` out.

    A network that has nothing to say to one of these questions inherits the answer that changes nothing.
    """

    def standard(self) -> Standard | None:
        """How its pixels have to be standardised; None takes mean and deviation of the training images."""
        return None

    def fit(self, images: Tensor) -> None:
        """Take what is not learned by steps from the training images, or from a file, once, before the first step.

        Args:
            images: a sample, float32 `(n, 3, H, W)`, normalised.
        """

    def before_step(self, progress: float) -> None:
        """Get ready for a training step, by the share of the run's steps that are done, 0 ≤ `progress` < 1."""

    def folded(self) -> Self:
        """A network that gives the same logits in eval mode with fewer operations; may share weights with this one."""
        return self
