"""`Phase`: a part of a run in which a part of the network learns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """From the end of the phase before to `until`.

    Attributes:
        until: share of the run's steps, 1 for the last phase.
        resting: paths of layers (`base`) or of single weights (`whitening/kernel`) that do not learn; what lies in a
            resting layer rests too, and its batch norms work as in inference.
        rate: what the learning rate is multiplied with.
    """

    until: float = 1.0
    resting: tuple[str, ...] = ()
    rate: float = 1.0


ALWAYS = (Phase(),)
