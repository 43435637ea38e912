"""How the learning rate moves over a run: one table per shape, each a function of the step alone.

OneCycle().factor(step=30, steps=100)    # what the recipe's learning rate is multiplied with
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from peregrine.validation import Fraction, Positive, Probability, Table


class _Schedule(Table):
    """A shape between 1 and 0, behind an optional warm-up.

    Attributes:
        warmup: fraction of the steps in which the rate first rises linearly from zero.
    """

    warmup: Fraction = 0.0

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied with at `step` of `steps`, counted from 0."""
        warmup = self.warmup * steps
        rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
        return rise * self._shape(step / steps)

    def _shape(self, progress: float) -> float:
        raise NotImplementedError


class Constant(_Schedule):
    """The same rate throughout."""

    name: Literal["constant"] = "constant"

    def _shape(self, progress: float) -> float:
        return 1.0


class Linear(_Schedule):
    """Linearly to zero."""

    name: Literal["linear"] = "linear"

    def _shape(self, progress: float) -> float:
        return 1 - progress


class Cosine(_Schedule):
    """Half a cosine to zero (Loshchilov and Hutter 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"

    def _shape(self, progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2


class Step(_Schedule):
    """A fall at each milestone.

    Attributes:
        milestones: fractions of the run.
        gamma: what the rate is multiplied with at each.
    """

    name: Literal["step"] = "step"
    milestones: tuple[Probability, ...] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    def _shape(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)


class OneCycle(Table):
    """Up and down again, each along half a cosine (Smith and Topin 2018, "Super-Convergence").

    The numbers are those of PyTorch's `OneCycleLR`; the recipe's learning rate is the peak.

    Attributes:
        peak: fraction of the run at which the rate is highest.
        start, end: shares of the peak's rate before the first step, and after the last.
    """

    name: Literal["one-cycle"] = "one-cycle"
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start: Probability = 0.04
    end: Positive = 4e-6

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied with at `step` of `steps`, counted from 0."""
        progress = step / steps
        if progress < self.peak:
            return _eased(self.start, 1.0, progress / self.peak)
        return _eased(1.0, self.end, (progress - self.peak) / (1 - self.peak))


def _eased(first: float, last: float, share: float) -> float:
    """From `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


Schedule = Annotated[Constant | Linear | Cosine | Step | OneCycle, Field(discriminator="name")]
