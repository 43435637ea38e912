"""Does a model answer as if it were given what it was trained on? From answers to validation images alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from peregrine import metrics
from peregrine.dataset import Labels
from peregrine.foreign.pixels import Pixels

MUCH = 0.03  # a share of the images; few would import a model again for less
ERRORS = 3.0  # standard errors of that share: a dozen ways are tried, and one of them is the luckiest
PER_CLASS = 5  # images of a class, on average, without which nothing is said of the order of classes
NEAR_CHANCE = 0.1  # of the way from the most frequent class to perfection


@dataclass(frozen=True)
class Mending:
    """What would make the model right more often.

    Attributes:
        pixels: how it seems to want them; None where they are as they should be.
        class_names: the order in which it seems to give its classes; None likewise.
        accuracy, before: with this, and as given; of the same images.
    """

    pixels: Pixels | None
    class_names: tuple[str, ...] | None
    accuracy: float
    before: float
    images: int

    def options(self) -> str:
        """For `peregrine import`, in the place of those that were given."""
        order = f'--classes "{",".join(self.class_names)}"' if self.class_names else ""
        return " ".join(part for part in (self.pixels.options() if self.pixels else "", order) if part)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "options": self.options()}


@dataclass(frozen=True)
class Findings:
    """What validation images say of an import.

    Attributes:
        correct, images: as given.
        near_chance: hardly better than always naming the most frequent class.
        mending: the best that was found, if it is much better.
        tried: one entry for each way: its options, accuracy, and `reordered_accuracy`: with the classes in the order
            that suits half of the images best, on the other half.
    """

    correct: int
    images: int
    near_chance: bool
    mending: Mending | None
    tried: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        interval = list(metrics.wilson_interval(self.correct, self.images))
        return {
            "images": self.images,
            "accuracy": self.correct / self.images,
            "accuracy_interval": interval,
            "near_chance": self.near_chance,
            "mending": self.mending.to_dict() if self.mending else None,
            "tried": self.tried,
        }


def look(answers: Sequence[tuple[Pixels, metrics.Floats]], labels: Labels, class_names: Sequence[str]) -> Findings:
    """Compare what was given with what else was tried.

    Args:
        answers: what was asked, and probabilities `(n, C)`; first as given, for all images, then others, for the first
            of them.
        labels: int64 `(N,)`; the images are in random order.
        class_names: in the order in which the model is said to give them.
    """
    given, all_answers = answers[0]
    classes = all_answers.shape[1]
    first = all_answers.argmax(1) == labels
    tried, ways = [], []
    for pixels, found in answers:
        part, predicted = labels[: len(found)], np.asarray(found.argmax(1))
        hits, reordered = predicted == part, None
        ways.append(_Way(pixels, None, hits, first[: len(part)], _certainty(found, part)))
        if len(part) >= PER_CLASS * classes:
            reordered, order = _reordered(predicted, part, classes)
            certainty = _certainty(found[:, np.argsort(order)], part)
            ways.append(_Way(pixels, order, reordered, first[: len(part)], certainty))
        tried.append({
            "options": pixels.options(),
            "images": len(part),
            "accuracy": float(hits.mean()),
            "reordered_accuracy": None if reordered is None else float(reordered.mean()),
        })  # fmt: skip
    best = max(ways, key=lambda way: (way.lead.mean() - (MUCH if way.order else 0), way.certainty))
    frequent = float(np.bincount(labels).max() / len(labels))
    chance = frequent + NEAR_CHANCE * (1 - frequent)
    count, right = len(best.hits), int(best.hits.sum())
    error = float(best.lead.std()) / np.sqrt(count)
    mending = None
    if best.lead.mean() > max(MUCH, ERRORS * error) and metrics.wilson_interval(right, count)[0] > chance:
        mending = Mending(
            pixels=best.pixels if best.pixels != given else None,
            class_names=tuple(class_names[index] for index in best.order) if best.order else None,
            accuracy=right / count,
            before=float(best.before.mean()),
            images=count,
        )
    correct = int(first.sum())
    low = metrics.wilson_interval(correct, len(labels))[0]
    return Findings(correct, len(labels), low < chance, mending, tried)


@dataclass(frozen=True)
class _Way:
    """How the model could be asked and understood.

    Attributes:
        order: the class of each output; None as given.
        hits, before: bool `(n,)`: which images are right so, and which were as given.
        certainty: mean probability of the right class, which tells ways apart that are right as often.
    """

    pixels: Pixels
    order: tuple[int, ...] | None
    hits: npt.NDArray[np.bool_]
    before: npt.NDArray[np.bool_]
    certainty: float

    @property
    def lead(self) -> metrics.Floats:
        """What an image gains by it: 1, 0 or -1."""
        return self.hits.astype(np.float64) - self.before


def _certainty(probabilities: metrics.Floats, labels: Labels) -> float:
    return float(probabilities[np.arange(len(labels)), labels].mean())


def _reordered(
    predicted: npt.NDArray[np.intp], labels: Labels, classes: int
) -> tuple[npt.NDArray[np.bool_], tuple[int, ...]]:
    """Hits with outputs that stand for other classes, and for which.

    Each half of the images is judged by the order that suits the other half best, for any order suits the images that
    it was made for a little better than chance.
    """
    halves = [slice(0, None, 2), slice(1, None, 2)]
    hits = np.zeros(len(labels), bool)
    for fitted, judged in (halves, halves[::-1]):
        order = np.array(_best_order(predicted[fitted], labels[fitted], classes))
        hits[judged] = order[predicted[judged]] == labels[judged]
    return hits, _best_order(predicted, labels, classes)


def _best_order(predicted: npt.NDArray[np.intp], labels: Labels, classes: int) -> tuple[int, ...]:
    """The class of each output with which most images are right, by the Hungarian method.

    Source: Kuhn, The Hungarian Method for the Assignment Problem, 1955.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1)
    counts += 0.5 * np.eye(classes)  # where the images do not tell, things stay as they are
    order = linear_sum_assignment(counts, maximize=True)[1]
    return tuple(int(index) for index in order)
