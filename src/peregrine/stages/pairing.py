"""Two models' answers to the same images, told apart by paired statistics. Pure arithmetic."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from peregrine import metrics, tables
from peregrine.artifact import Probabilities
from peregrine.dataset import Dataset

SHOWN = 5  # images that only one gets right, told in full
SIGNIFICANT = 0.05  # McNemar's p below which a difference is called one

Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Answers:
    """What a model says, by the names of classes: two models may count them in different orders.

    Attributes:
        name: of the model, as the user named it.
        ids: `(N,)`, of the images.
        truth, said: `(N,)`, the true and the most likely class.
        confidence: `(N,)`, probability of what is said.
        belief: `(N,)`, probability of the true class.
    """

    name: str
    ids: Names
    truth: Names
    said: Names
    confidence: metrics.Floats
    belief: metrics.Floats

    @classmethod
    def of(cls, name: str, part: Dataset, probabilities: Probabilities) -> "Answers":
        """The answers to a data set in the model's class order; one that is not a number says nothing.

        Args:
            probabilities: `(N, C)`.
        """
        sound = np.asarray(np.isfinite(probabilities).all(axis=1))
        known = np.where(sound[:, None], probabilities, 0.0)
        names = np.asarray(part.class_names)
        return cls(
            name=name,
            ids=part.ids,
            truth=names[part.labels],
            said=np.where(sound, names[known.argmax(1)], ""),
            confidence=known.max(1),
            belief=known[np.arange(len(part)), part.labels],
        )

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.said == self.truth)

    def at(self, places: npt.NDArray[np.intp]) -> "Answers":
        """Those at `places`, in that order."""
        fields = ("ids", "truth", "said", "confidence", "belief")
        return replace(self, **{field: getattr(self, field)[places] for field in fields})


def compare(reference: Answers, model: Answers) -> dict[str, Any]:
    """What changes from the reference to another model, on the same images in the same order, N ≥ 1.

    Returns:
        `difference_points` of accuracy with its paired 95% `difference_interval`, images `gained` and `lost`, the exact
        `mcnemar_p`, `verdict` (`better`, `worse` or `no difference shown`), how many images `both_right` and
        `both_wrong`, `agreement` (share with the same class said), the images that `only_reference_right` and
        `only_model_right` (`images`, `ids`, and a few `examples` in full, those first where the two differ most), and
        `per_class`, the largest change first.
    """
    was, now = reference.right, model.right
    gained, lost = int((now & ~was).sum()), int((was & ~now).sum())
    p = mcnemar_p(gained, lost)
    verdict = ("better" if gained > lost else "worse") if p < SIGNIFICANT else "no difference shown"
    return {
        "reference": reference.name,
        "model": model.name,
        **_change(gained, lost, len(was)),
        "mcnemar_p": p,
        "verdict": verdict,
        "both_right": int((was & now).sum()),
        "both_wrong": int((~was & ~now).sum()),
        "agreement": float((reference.said == model.said).mean()),
        "only_reference_right": _only(reference, model),
        "only_model_right": _only(model, reference),
        "per_class": _per_class(reference, model),
    }


def mcnemar_p(gained: int, lost: int) -> float:
    """How often chance alone splits the images that one of two models gets right so unevenly, or more.

    Exact: under the hypothesis that both are equally good, `gained` of `gained + lost` is a fair coin.

    Source: Q. McNemar, Psychometrika 12 (1947); recommended for two classifiers on one test set by T. G. Dietterich,
    Neural Computation 10 (1998).
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _change(gained: int, lost: int, images: int) -> dict[str, Any]:
    """Percentage points of accuracy gained, with the paired 95% interval, and the images behind them."""
    return {
        "difference_points": 100 * (gained - lost) / images,
        "difference_interval": [100 * end for end in metrics.changed_interval(gained, lost, images)],
        "gained": gained,
        "lost": lost,
    }


def _only(right: Answers, wrong: Answers) -> dict[str, Any]:
    """The images that the one gets right and the other wrong, those first where it is surest against the other."""
    places = np.flatnonzero(right.right & ~wrong.right)
    places = places[np.argsort(-(right.belief - wrong.belief)[places], kind="stable")]
    return {
        "images": len(places),
        "ids": right.ids[places].tolist(),
        "examples": [
            {
                "id": str(right.ids[place]),
                "true": str(right.truth[place]),
                "probability": float(right.belief[place]),
                "other_says": str(wrong.said[place]),
                "other_probability": float(wrong.confidence[place]),
            }
            for place in places[:SHOWN]
        ],
    }


def _per_class(reference: Answers, model: Answers) -> list[dict[str, Any]]:
    was, now = reference.right, model.right
    names, classes = np.unique(reference.truth, return_inverse=True)
    counted = tables.group_sums({"class": classes}, {"was": was, "now": now, "gained": now & ~was, "lost": was & ~now})
    rows = [
        {
            "class": str(names[number]),
            "images": images,
            "reference_accuracy": right_before / images,
            "accuracy": right_now / images,
            **_change(gained, lost, images),
        }
        for number, right_before, right_now, gained, lost, images in zip(
            *(column.tolist() for column in counted.values()), strict=True
        )
    ]
    return sorted(rows, key=lambda row: (-abs(row["difference_points"]), row["class"]))
