"""How a model wants its pixels: the order of the channels, scale, mean and standard deviation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Images
from peregrine.errors import UsageError

Values = npt.NDArray[np.float32]
Triple = tuple[float, float, float]
ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class Pixels:
    """`(pixel * scale - mean) / std`, of pixels 0..255.

    Attributes:
        channels: `rgb` or `bgr`: the order in which the model sees them, and in which `mean` and `std` stand.
        scale: what pixels are multiplied with.
        mean, std: per channel, of scaled pixels.
    """

    channels: str = "rgb"
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    @classmethod
    def of(cls, channels: str, scale: float, mean: float | Sequence[float], std: float | Sequence[float]) -> Self:
        """From what a user gives: one number for all channels, or one for each.

        Raises:
            UsageError: a value is not one that pixels can be treated with.
        """
        if channels not in ORDERS:
            raise UsageError(f"--channels is rgb or bgr; got {channels!r}")
        made = cls(channels, float(scale), _triple("--mean", mean), _triple("--std", std))
        if not (np.isfinite(made.scale) and made.scale > 0):
            raise UsageError(f"--scale is a number above 0, such as 1/255; got {scale}")
        if not np.isfinite(made.mean).all():
            raise UsageError(f"--mean has a number per channel; got {mean}")
        if not (np.isfinite(made.std).all() and min(made.std) > 0):
            raise UsageError(f"--std has a number above 0 per channel; got {std}")
        return made

    @property
    def untouched(self) -> bool:
        """Whether the numbers stay pixels 0..255."""
        return replace(self, channels="rgb") == Pixels()

    def apply(self, images: Images) -> Values:
        """By hand, as one would before asking the model: uint8 `(N, H, W, 3)` RGB to float32 of the same shape."""
        ordered = images[..., ::-1] if self.channels == "bgr" else images
        values: Values = ((ordered * np.float64(self.scale) - self.mean) / self.std).astype(np.float32)
        return values

    def factors(self) -> tuple[Values, Values]:
        """The same as `pixel * factor + offset`, per channel in the model's order: float32 `(3,)` each."""
        std, mean = np.array(self.std), np.array(self.mean)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)

    def flipped(self) -> Self:
        """The same for each colour, with the channels in the other order."""
        other = ORDERS[1 - ORDERS.index(self.channels)]
        return replace(self, channels=other, mean=self.mean[::-1], std=self.std[::-1])

    def options(self) -> str:
        """As options of `peregrine import`."""
        said = {
            "--channels": self.channels if self.channels != "rgb" else "",
            "--scale": _fraction(self.scale) if self.scale != 1 else "",
            "--mean": _listed(self.mean) if any(self.mean) else "",
            "--std": _listed(self.std) if set(self.std) != {1.0} else "",
        }
        return " ".join(f"{option} {value}" for option, value in said.items() if value) or "--scale 1"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})


# What models of others mostly want. Source: torchvision and timm (ImageNet's statistics), Keras' `preprocess_input`
# in the modes tf (-1 to 1) and caffe (ImageNet's mean, blue first).
USUAL = (
    Pixels(),
    Pixels(scale=1 / 255),
    Pixels(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    Pixels(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Pixels(mean=(123.68, 116.779, 103.939)),
)


def alternatives(given: Pixels, own: Pixels | None, takes_pixels: bool) -> list[Pixels]:
    """What else a model may have wanted, the nearest to `given` first.

    Args:
        own: by the mean and the standard deviation of the data that it may have been trained on.
        takes_pixels: the model takes uint8, which leaves the order of the channels alone.
    """
    if takes_pixels:
        return [given.flipped()]
    kinds = [given, *USUAL, *([own] if own else [])]
    found = [kind for pair in ((kind, kind.flipped()) for kind in kinds) for kind in pair]
    return [kind for kind in dict.fromkeys(found) if kind != given]


def own_statistics(mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """By the statistics of images in 0..255, rounded to what one would type."""
    rounded = [[round(value / 255, 4) for value in values] for values in (mean, std)]
    return Pixels(
        scale=1 / 255, mean=_triple("mean", rounded[0]), std=_triple("std", [max(v, 0.01) for v in rounded[1]])
    )


def parse_number(text: str, option: str) -> float:
    """`0.5`, or a fraction such as `1/255`.

    Raises:
        UsageError: neither.
    """
    over, slash, under = text.partition("/")
    try:
        return float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} takes numbers such as 0.5 or 1/255; got {text!r}") from None


def parse_numbers(text: str, option: str) -> float | list[float]:
    """One number, or several with commas between them.

    Raises:
        UsageError: something else.
    """
    found = [parse_number(part.strip(), option) for part in text.split(",")]
    return found[0] if len(found) == 1 else found


def _triple(option: str, value: float | Sequence[float]) -> Triple:
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(each) for each in value]
    if len(values) != 3:
        raise UsageError(f"{option} takes one number, or three, one for each channel; got {len(values)}")
    return values[0], values[1], values[2]


def _fraction(value: float) -> str:
    under = round(1 / value, 6)
    return f"1/{under:g}" if value < 1 and 1 / under == value else repr(value)


def _listed(values: Triple) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ",".join(f"{value:g}" for value in values)
