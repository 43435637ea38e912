"""`Network`: what the training loop may ask of every network beyond being a module."""

from typing import Self

from torch import Tensor, nn


class Network(nn.Module):
    """Normalised float images `(N, 3, H, W)` in, float logits `(N, C)` out.

    A network that has nothing to say to one of these questions inherits the answer that changes nothing.
    """

    def fit(self, images: Tensor) -> None:
        """Take from the training images what is not learned by steps, once, before the first step.

        Args:
            images: a sample, float32 `(n, 3, H, W)`, normalised.
        """

    def before_step(self, progress: float) -> None:
        """Get ready for a training step, by the share of the run's steps that are done, 0 ≤ `progress` < 1."""

    def folded(self) -> Self:
        """A network that gives the same logits in eval mode with fewer operations; may share weights with this one."""
        return self
