"""What is said of a classifier: accuracy and its interval, per-class figures, calibration, temperature."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import tables
from peregrine.dataset import Labels
from peregrine.errors import CheckFailed

Floats = npt.NDArray[np.floating[Any]]
CALIBRATION_BINS = 15
_CONFIDENCE_STEPS = 2**32  # summed as whole numbers: the same on every device, up to 2^31 images


def evaluate(probabilities: Floats, labels: Labels, class_names: tuple[str, ...]) -> dict[str, Any]:
    """All figures of one split as plain values.

    Args:
        probabilities: `(N, C)`, N ≥ 1.
        labels: int64 `(N,)`.

    Returns:
        `accuracy` and its 95% `accuracy_interval` (Wilson), `top3_accuracy` (top-min(3, C)), `balanced_accuracy` (the
        mean recall of the classes), `macro_precision`, `macro_recall`, `macro_f1`, `loss` (mean negative
        log-likelihood, nats), `ece`, `per_class` (precision, recall, f1, images; by class name), `confusion_matrix`
        (rows are true classes), `reliability` (the bins behind `ece`), `images`. Classes without images are left out
        of the means over classes.

    Raises:
        CheckFailed: an answer is not a number.
    """
    unsound = int((~np.isfinite(probabilities)).any(1).sum())
    if unsound:
        told = f"{unsound:,} of {len(labels):,} images"
        raise CheckFailed(f"a model answers with probabilities; for {told}, this one answers with NaN or infinity")
    classes = len(class_names)
    predicted = probabilities.argmax(1)
    confusion = np.zeros((classes, classes), np.int64)
    answers = tables.group_sums({"label": labels, "predicted": predicted})
    confusion[answers["label"], answers["predicted"]] = answers["rows"]
    hits = np.diag(confusion).astype(float)
    support, claimed = confusion.sum(1), confusion.sum(0)
    recall = _divide(hits, support)
    precision = _divide(hits, claimed)
    f1 = _divide(2 * hits, support + claimed)
    present = support > 0
    correct = int(hits.sum())
    reliability = reliability_bins(probabilities, labels)
    return {
        "images": len(labels),
        "accuracy": correct / len(labels),
        "accuracy_interval": list(wilson_interval(correct, len(labels))),
        "top3_accuracy": top_k_accuracy(probabilities, labels, 3),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "loss": log_loss(probabilities, labels),
        "ece": float(sum(bin["share"] * abs(bin["accuracy"] - bin["confidence"]) for bin in reliability)),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "images": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
        "confusion_matrix": confusion.tolist(),
        "reliability": reliability,
    }


def top_k_accuracy(probabilities: Floats, labels: Labels, k: int) -> float:
    """Share of images whose true class is among the `min(k, C)` most likely ones."""
    k = min(k, probabilities.shape[1])
    top = np.argpartition(probabilities, -k, axis=1)[:, -k:]
    return float((top == labels[:, None]).any(1).mean())


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean negative log-likelihood in nats; a probability of zero counts as the smallest float32."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a proportion that stays inside 0..1 and is right for few trials and for rates near 1.

    Source: E. B. Wilson, JASA 22 (1927); recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001).
    """
    z = 1.959964
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability_bins(probabilities: Floats, labels: Labels) -> list[dict[str, float]]:
    """Bins of equal width over the confidence: its mean, the accuracy, and the share of images; empty ones left out.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2 (15 bins).
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    index = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    steps = np.rint(confidence.astype(np.float64) * _CONFIDENCE_STEPS).astype(np.int64)
    bins = tables.group_sums({"bin": index}, {"confidence": steps, "right": right})
    return [
        {
            "confidence": total / _CONFIDENCE_STEPS / images,
            "accuracy": hits / images,
            "share": images / len(labels),
        }
        for _, total, hits, images in zip(*(column.tolist() for column in bins.values()), strict=True)
    ]


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature that minimises the log-loss of `softmax(logits / temperature)`, within 0.05 to 20.

    The loss is convex in the inverse temperature, so a golden-section search over its logarithm finds the minimum.
    Where every answer is right, any sharpening would lower it; so the targets give 1/(N + 2) to the other classes, as
    if one more image had been wrong, which matters for small N alone.

    Args:
        logits: `(N, C)`, N ≥ 1.
        labels: int64 `(N,)`.

    Source: Guo et al., ICML 2017, section 4.2; the targets are those of Platt, Probabilistic Outputs for Support Vector
    Machines, 1999, section 2.2.
    """
    # How far each class stands above the true one; exact where probabilities would underflow.
    lead = logits.astype(np.float64)
    lead -= lead[np.arange(len(labels)), labels][:, None]
    others = lead.sum(1).mean() / (logits.shape[1] - 1) / (len(labels) + 2)
    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        scaled = lead / math.exp(log_temperature)
        top = scaled.max(1, keepdims=True)
        return float((top[:, 0] + np.log(np.exp(scaled - top).sum(1))).mean() - others / math.exp(log_temperature))

    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax, shifted so that it cannot overflow."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    result: Floats = exponents / exponents.sum(1, keepdims=True)
    return result


def paired_interval(difference: Floats) -> tuple[float, float]:
    """95% interval of the mean of paired differences `(N,)`, one per image, by the normal approximation."""
    mean = float(difference.mean())
    half = 1.959964 * float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    return mean - half, mean + half


def changed_interval(gained: int, lost: int, images: int) -> tuple[float, float]:
    """95% interval of the difference of two shares of the same images, -1 to 1.

    That of the normal approximation with one more image gained and one more lost: it does not shrink to a point where
    nothing changes, or where a class has few images.

    Source: Bonett and Price, Journal of Educational and Behavioral Statistics 37 (2012); recommended by Fagerland,
    Lydersen and Laake, Statistics in Medicine 33 (2014).
    """
    up, down = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / (images + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def _divide(numerator: Floats, denominator: npt.NDArray[Any]) -> Floats:
    """Element-wise quotient, 0 where the denominator is 0."""
    quotient: Floats = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
    return quotient
