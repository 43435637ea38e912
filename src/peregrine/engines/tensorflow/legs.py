"""A run as a sequence of legs, in each of which every step is the same piece of work for one compiled graph."""

from dataclasses import dataclass

from peregrine.engines.tensorflow.models.base import Phase
from peregrine.recipe import Recipe


@dataclass(frozen=True)
class Leg:
    """Steps at one size of images, in one phase of the network.

    Attributes:
        stop: the step, counted over the whole run, before which the leg ends.
        side: of the images, in pixels.
    """

    stop: int
    side: int
    phase: Phase


def legs(recipe: Recipe, phases: tuple[Phase, ...], total: int) -> list[Leg]:
    """The legs of a resolved recipe over `total` steps, in order; those without a step are left out."""
    size = recipe.input.size
    assert size != "auto"  # `resolve` has filled it in
    sizes = [*recipe.input.growth, (1.0, size)]
    ends = sorted({_stop(share, total) for share in (*(until for until, _ in sizes), *(p.until for p in phases))})
    found: list[Leg] = []
    for stop in ends:
        first = found[-1].stop if found else 0
        if first < stop:
            side = next(side for until, side in sizes if first < until * total)
            phase = next(phase for phase in phases if first < phase.until * total)
            found.append(Leg(stop, side, phase))
    return found


def leg_of(every: list[Leg], step: int) -> Leg:
    """The leg that a step belongs to; the last one after the end."""
    return next((leg for leg in every if step < leg.stop), every[-1])


def _stop(until: float, total: int) -> int:
    """The first step that is not below a share of the run."""
    return -int(-until * total // 1)
