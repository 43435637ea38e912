"""Likely label errors: a classifier that has not seen the image is confident of another label.

Each image is judged by a linear classifier trained on four fifths of the data without it. Confident learning, by
cleanlab, proposes: a class counts as predicted with confidence where its probability reaches the mean that it has among
the images of that class; an image is proposed if that holds for another class than its own. Of a classifier that is
wrong about every third image that is too much to look through. So one more question is asked: which share of labels
drawn blindly explains all labels best, beside these probabilities? It tells how probable it is that a certain label is
wrong, and what is more probably right than wrong is not listed.

Source: C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021, as in cleanlab 2.9.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cleanlab.filter import find_label_issues
from scipy import linalg, optimize, special

from peregrine import progress
from peregrine.data.checks.base import Case, Finding, count, finding
from peregrine.data.checks.features import features
from peregrine.data.checks.pool import Pool
from peregrine.dataset import Labels

_FOLDS = 5
_RIDGE = 300  # images that the penalty is worth: each adds the mean square of a feature
_ROWS = 4096  # features turned into float32 at once
_LEAST = 20  # images of a class that can be judged
_LIKELY = 0.5  # probability of being wrong from which a label is listed
_SHARPNESS = (0.1, 100.0)  # of the softmax, at most and at least
_WRONG = (1e-4, 0.2)  # share of wrong labels, likewise

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """What a classifier says of images that it was not trained on.

    Attributes:
        probabilities: `(N, C)`.
        wrong: `(N,)`, the probability that the image's own label is wrong; too high where the classifier is surer
            than it should be.
    """

    probabilities: Floats
    wrong: Floats


def find(pool: Pool, seed: int = 0) -> list[Finding]:
    """Images whose label is probably wrong, the surest first."""
    judged = judge(pool, seed)
    predicted = judged.probabilities.argmax(1)
    cases = []
    for index in doubtful(pool.labels, judged).tolist():
        own, other = (judged.probabilities[index, label] for label in (pool.labels[index], predicted[index]))
        name = pool.class_names[predicted[index]]
        share = "< 0.1%" if own < 0.001 else f"{own:.1%}"
        said = f"looks like {name} ({other:.0%}), not {pool.class_names[pool.labels[index]]} ({share})"
        cases.append(Case((pool.member(index),), said, round(float(judged.wrong[index]), 4), name))
    message = f"{count(len(cases))} may be labelled wrong; look at them, the surest first"
    return finding("label-error", message, cases)


def enough(pool: Pool) -> bool:
    """Whether there are two classes or more with enough images to learn from."""
    return int((np.bincount(pool.labels) >= _LEAST).sum()) >= 2


def judge(pool: Pool, seed: int = 0) -> Judgement:
    """Judge each image by a classifier that was trained without it.

    Ridge regression on the labels as 0 and 1, because what it sums over a fold is summed once, and leaving the fold out
    is a subtraction.
    """
    computed = features(pool, seed)
    folds = _folds(pool.labels, seed)
    targets = np.eye(len(pool.class_names), dtype=np.float32)[pool.labels]
    prior = targets.mean(0)
    squares = np.zeros((_FOLDS, computed.shape[1], computed.shape[1]), np.float32)
    products = np.zeros((_FOLDS, computed.shape[1], targets.shape[1]), np.float32)
    answers = np.empty_like(targets)
    with progress.bar("judge labels", 2 * len(pool), "image") as advance:
        for fold in range(_FOLDS):
            for some in _pieces(np.flatnonzero(folds == fold)):
                values = computed[some].astype(np.float32)
                squares[fold] += values.T @ values
                products[fold] += values.T @ (targets[some] - prior)
                advance(len(some))
        whole, all_products = squares.sum(0), products.sum(0)
        penalty = _RIDGE / len(pool) * np.trace(whole) / len(whole) * np.eye(len(whole), dtype=np.float32)
        for fold in range(_FOLDS):
            weights = linalg.solve(
                whole - squares[fold] + penalty, all_products - products[fold], assume_a="pos", overwrite_a=True
            )
            for some in _pieces(np.flatnonzero(folds == fold)):
                answers[some] = computed[some].astype(np.float32) @ weights + prior
                advance(len(some))
    return _explained(answers, pool.labels)


def doubtful(labels: Labels, judged: Judgement) -> npt.NDArray[np.intp]:
    """Which labels are probably wrong, the surest first; those of the smallest classes cannot be told."""
    proposed = find_label_issues(labels, judged.probabilities, filter_by="confident_learning", n_jobs=1)
    listed = np.flatnonzero(proposed & (judged.wrong >= _LIKELY) & (np.bincount(labels)[labels] >= _LEAST))
    order: npt.NDArray[np.intp] = listed[np.argsort(-judged.wrong[listed], kind="stable")]
    return order


def _folds(labels: Labels, seed: int) -> npt.NDArray[np.intp]:
    """A fold for each image, `(N,)`, with as many images of each class in every one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.intp)
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds


def _pieces(indices: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    return [indices[start : start + _ROWS] for start in range(0, len(indices), _ROWS)]


def _explained(answers: Floats, labels: Labels) -> Judgement:
    """Probabilities from a classifier's answers `(N, C)`.

    A label is right and drawn from a softmax of the answers, or wrong and drawn from the other classes blindly. The
    sharpness of the softmax and the share of wrong labels are those under which the given labels are most likely.
    """
    rows, others = np.arange(len(labels)), answers.shape[1] - 1

    def own(sharpness: float) -> npt.NDArray[np.float64]:
        logits = special.log_softmax(sharpness * answers.astype(np.float64), axis=1)
        chosen: npt.NDArray[np.float64] = np.exp(logits[rows, labels])
        return chosen

    def surprise(settings: npt.NDArray[np.float64]) -> float:
        sharpness, share = np.exp(settings)
        right = own(sharpness)
        return -float(np.log((1 - share) * right + share * (1 - right) / others).mean())

    bounds = [tuple(np.log(_SHARPNESS)), tuple(np.log(_WRONG))]
    best = optimize.minimize(surprise, np.log([5.0, 0.01]), method="Nelder-Mead", bounds=bounds).x
    sharpness, share = np.exp(best)
    right = own(sharpness)
    by_mistake = share * (1 - right) / others
    wrong = by_mistake / (by_mistake + (1 - share) * right)
    probabilities = special.softmax(sharpness * answers, axis=1)
    return Judgement(probabilities.astype(np.float32), wrong.astype(np.float32))
