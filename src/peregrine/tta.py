"""Test-time augmentation: several views of an image, one answer.

The views are made of the uint8 images, outside the model, so every Runtime and every export can be judged with them.

Source: airbench94_muon (github.com/KellerJordan/cifar10-airbench); the share of uncertain images from
hiverge/cifar10-speedrun.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Images
from peregrine.errors import UsageError, suggestion
from peregrine.metrics import Floats, softmax


class View(NamedTuple):
    """How an image is looked at: moved by `shift` pixels down and right, then perhaps mirrored."""

    shift: int
    mirrored: bool
    weight: float


# The first view of each is the image itself. Weights are powers of two that sum to 1.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(0, False, 1.0),),
    "flip": (View(0, False, 0.5), View(0, True, 0.5)),
    "full": (
        View(0, False, 0.25),
        View(0, True, 0.25),
        View(-1, False, 0.125),
        View(-1, True, 0.125),
        View(1, False, 0.125),
        View(1, True, 0.125),
    ),
}


def check_tta(name: str, share: float) -> None:
    """Refuse what is no test-time augmentation.

    Raises:
        UsageError: an unknown name, or a share that is no share, or one of nothing.
    """
    if name not in VIEWS:
        raise UsageError(f"tta is one of {', '.join(VIEWS)}; got {name!r}{suggestion(name, VIEWS)}")
    if not 0 <= share <= 1:
        raise UsageError(f"the share of images for test-time augmentation is within 0 to 1; got {share:g}")
    if name == "none" and share != 1:
        raise UsageError(f"a share of images needs test-time augmentation; got {share:g} with none; use flip or full")


def other_views(images: Images, name: str) -> Iterator[Images]:
    """The views beside the images themselves, in the order of `VIEWS[name]`.

    Args:
        images: uint8 `(n, H, W, 3)`. What a shift brings in at an edge is reflected.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = images.shape[1:3]
    for shift, mirrored, _ in VIEWS[name][1:]:
        moved = padded[:, 1 - shift : 1 - shift + height, 1 - shift : 1 - shift + width]
        yield moved[:, :, ::-1] if mirrored else moved


def combine(answers: Sequence[Floats], name: str) -> npt.NDArray[np.float32]:
    """One answer of the answers to all views, float32 `(n, C)`: the mean of the logits, as probabilities.

    A log-probability is a logit less a constant of its image and view, and softmax ignores such constants; so the
    weighted mean of log-probabilities gives what that of the logits would give, also behind a temperature. A
    probability of zero, as int8 exports give, counts as the smallest float32.

    Args:
        answers: probabilities of each view `(n, C)`, in the order of `VIEWS[name]`.
    """
    smallest = np.finfo(np.float32).tiny
    weighted = (
        view.weight * np.log(np.maximum(answer, smallest)) for view, answer in zip(VIEWS[name], answers, strict=True)
    )
    return softmax(sum(weighted, start=np.zeros(1, np.float32))).astype(np.float32)


def least_certain(probabilities: Floats, share: float) -> npt.NDArray[Any]:
    """Indices, rising, of the share of images whose most likely class has the lowest probability."""
    count = round(share * len(probabilities))
    return np.sort(np.argsort(probabilities.max(1), kind="stable")[:count])
