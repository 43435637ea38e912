"""How right a model is, and how sure."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from peregrine import metrics
from peregrine.dataset import Labels
from peregrine.stages.plots.frame import (
    INK,
    MUTED,
    NEUTRAL,
    PAPER,
    RIGHT,
    RIGHT_PALE,
    RIGHT_SHADES,
    WIDE,
    WIDTH,
    WRONG,
    WRONG_PALE,
    WRONG_SHADES,
    Row,
    percent_ticks,
    picture,
)
from peregrine.stages.wording import are, count, percent, short, sure

COUNTED_CLASSES = 20  # up to so many, the confusion matrix has room for numbers
SHOWN_CLASSES = 100  # more names than this cannot be read in a picture


def confusion_matrix(evaluation: Row, path: Path) -> None:
    """Draw which class is taken for which: shares of the true class as colour, counts while there is room for them.

    The mistakes have a colour scale of their own: on that of the right answers they would all look white. Of more than
    100 classes those with the most frequent mistakes are drawn.

    Args:
        evaluation: what `metrics.evaluate` returns.
    """
    matrix, names = np.asarray(evaluation["confusion_matrix"]), list(evaluation["per_class"])
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    mistakes = np.where(np.eye(len(names), dtype=bool), 0.0, shares)
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    title = f"{percent(evaluation['accuracy'])} of {_images(evaluation)} {are(evaluation['images'])} right"
    if mistakes.any():
        share = percent(mistakes.max())
        title += f"; the most frequent mistake: {share} of “{short(names[true], 24)}” "
        title += f"are taken for “{short(names[predicted], 24)}”"
    reading = "Colour: share of the true class's images; right answers and mistakes have a scale each."
    counted = len(names) <= COUNTED_CLASSES
    if counted:
        reading += " Numbers: images."
    if len(names) > SHOWN_CLASSES:
        reading += f" Shown: the {SHOWN_CLASSES} of {len(names):,} classes with the most frequent mistakes."
        worst = np.maximum(mistakes.max(0), mistakes.max(1))
        shown = np.sort(np.argsort(-worst, kind="stable")[:SHOWN_CLASSES])
        matrix, shares, mistakes = (array[np.ix_(shown, shown)] for array in (matrix, shares, mistakes))
        names = [names[index] for index in shown]
    width = WIDTH if counted else WIDE
    height = min(max(1.2 + 0.58 * len(names), 4.2), 7.2) if counted else min(2.5 + 0.16 * len(names), 12)
    with picture(path, title, reading, height=height, width=width) as figure:
        axes = figure.subplots()
        axes.set_facecolor(PAPER)
        diagonal = np.eye(len(names), dtype=bool)
        scales = (
            ("right", np.ma.masked_where(~diagonal, shares), RIGHT_SHADES, 1.0, 0.54),
            ("mistaken", np.ma.masked_where(mistakes == 0, shares), WRONG_SHADES, float(mistakes.max()), 0.0),
        )
        for label, values, shades, top, bottom in scales if mistakes.any() else scales[:1]:
            image = axes.imshow(values, cmap=shades, vmin=0, vmax=top, aspect="auto")
            bar = figure.colorbar(image, cax=axes.inset_axes((1.03, bottom, 0.02, 0.46)), format=percent_ticks)
            bar.set_label(f"Share {label}")
            bar.outline.set_visible(False)
        if counted:
            _write_counts(axes, matrix, shares > np.where(diagonal, 0.6, 0.6 * mistakes.max()))
        _name_classes(axes, names, counted)


def _write_counts(axes: Axes, matrix: npt.NDArray[np.int64], dark: npt.NDArray[np.bool_]) -> None:
    size = 9.0 if len(matrix) <= 12 else 6.5
    for (row, column), images in np.ndenumerate(matrix):
        colour = MUTED if images == 0 else "white" if dark[row, column] else INK
        shown = f"{images:,}" if images < 10_000 else f"{images / 1000:,.0f}k"
        text = axes.text(column, row, shown, ha="center", va="center_baseline", fontsize=size, color=colour)
        text.set_in_layout(False)  # measuring hundreds of texts takes longer than drawing them


def _name_classes(axes: Axes, names: list[str], counted: bool) -> None:
    """Write the names beside the cells, across where they fit, else turned; and draw the lines between the cells."""
    labels = [short(name, 24) for name in names]
    size = 9.0 if counted else max(5.5, min(9.0, 600 / len(names)))
    flat = max(map(len, labels)) * len(names) <= 85
    turn = {"rotation": 0} if flat else {"rotation": 45 if counted else 90, "ha": "right" if counted else "center"}
    axes.set_xticks(range(len(names)), labels, fontsize=size, rotation_mode="anchor" if counted else None, **turn)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    edges = np.arange(len(names) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(False)
    axes.grid(which="minor", color="white", linewidth=1.5 if counted else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Predicted class", ylabel="True class")


def class_accuracy(evaluation: Row, path: Path) -> None:
    """Draw each class's accuracy with its 95% Wilson interval, the best first; of more than 100 classes the weakest.

    Args:
        evaluation: what `metrics.evaluate` returns.
    """
    matrix, names = np.asarray(evaluation["confusion_matrix"]), list(evaluation["per_class"])
    hits, images = np.diag(matrix), matrix.sum(1)
    accuracy = hits / np.maximum(images, 1)
    order = [int(index) for index in np.argsort(-accuracy, kind="stable") if images[index]]
    best, worst = order[0], order[-1]
    title = f"Accuracy per class runs from {percent(accuracy[worst])} ({short(names[worst], 24)}) to "
    title += f"{percent(accuracy[best])} ({short(names[best], 24)})"
    reading = "Share of each class's images that are right. Lines: 95% interval (Wilson). "
    reading += f"Dashed: all {_images(evaluation)}, {percent(evaluation['accuracy'])}."
    if len(order) > SHOWN_CLASSES:
        reading += f" Shown: the {SHOWN_CLASSES} weakest of {len(order):,} classes."
        order = order[-SHOWN_CLASSES:]
    columns, width, pitch, size = (1, WIDTH, 0.28, 9.0) if len(order) <= 30 else (2, WIDE, 0.18, 7.5)
    length = -(-len(order) // columns)
    with picture(path, title, reading, height=0.75 + pitch * max(length, 4), width=width) as figure:
        for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
            chosen = order[column * length : (column + 1) * length]
            places, middle = np.arange(len(chosen)), accuracy[chosen]
            intervals = np.array([metrics.wilson_interval(int(hits[index]), int(images[index])) for index in chosen])
            axes.barh(places, middle, height=0.72, color=RIGHT_PALE)
            axes.errorbar(
                middle, places, xerr=np.abs(intervals.T - middle), fmt="o", color=RIGHT, markersize=4, linewidth=1.4,
                capsize=2.5,
            )  # fmt: skip
            axes.axvline(evaluation["accuracy"], color=INK, linewidth=0.8, linestyle="--")
            counts = [f"of {images[index]:,}" for index in chosen]
            ends = (5.2 * size, (5.8 + 0.6 * max(map(len, counts))) * size)  # points right of the axes
            for place, index in enumerate(chosen):
                for text, end, colour in ((percent(accuracy[index]), ends[0], INK), (counts[place], ends[1], MUTED)):
                    axes.annotate(
                        text, (1, place), (end, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                        ha="right", va="center_baseline", fontsize=size, color=colour,
                    )  # fmt: skip
            axes.set_yticks(places, [short(names[index], 32) for index in chosen], fontsize=size)
            axes.set(xlim=(0, 1), ylim=(length - 0.4, -0.6), xlabel="Accuracy of the class")
            axes.xaxis.set_major_formatter(percent_ticks)
            axes.tick_params(axis="y", length=0)
            axes.grid(False, axis="y")
            axes.spines["left"].set_visible(False)


def confidence_distribution(probabilities: metrics.Floats, labels: Labels, path: Path) -> None:
    """Draw how sure the right and the wrong answers are.

    Args:
        probabilities: `(N, C)`, N ≥ 1.
        labels: int64 `(N,)`.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    groups = [("Right", confidence[right], RIGHT, ""), ("Wrong", confidence[~right], WRONG, "////")]
    claims = [f"{name.lower()} answers {sure(np.median(values))}" for name, values, _, _ in groups if len(values)]
    title = f"Typical confidence: {', '.join(claims)}"
    if not right.all():
        bold = int((confidence[~right] >= 0.9).sum())
        title += f"; {bold:,} of {count(int((~right).sum()), 'mistake')} made with 90% or more"
    reading = "Confidence: probability of the predicted class. Typical: the median. Each panel adds up to 100%."
    with picture(path, title, reading, height=4.4) as figure:
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        edges = np.linspace(0, 1, 21)
        for panel, (name, values, colour, hatch) in zip(panels, groups, strict=True):
            shares = np.histogram(values, edges)[0] / max(len(values), 1)
            panel.bar(edges[:-1], shares, width=0.05, align="edge", color=colour, edgecolor="white", hatch=hatch)
            text = f"{name}: {count(len(values), 'answer')}"
            if len(values):
                panel.axvline(np.median(values), color=INK, linewidth=1, linestyle="--")
                text += f", half of them at {sure(np.median(values))} or more (dashed)"
            panel.set_title(text, color=colour)
            panel.yaxis.set_major_formatter(percent_ticks)
            panel.set_ylabel(f"Share of {name.lower()}")
        panels[1].set(xlim=(0, 1), xlabel="Confidence")
        panels[1].xaxis.set_major_formatter(percent_ticks)


def reliability(evaluation: Row, path: Path) -> None:
    """Draw accuracy against confidence, and how many images each bin of confidence holds.

    Args:
        evaluation: what `metrics.evaluate` returns.
    """
    bins, total = evaluation["reliability"], evaluation["images"]
    confidence, accuracy, share = (
        np.array([entry[key] for entry in bins]) for key in ("confidence", "accuracy", "share")
    )
    bias = 100 * float(share @ (confidence - accuracy))
    title = f"Confidence is off by {100 * evaluation['ece']:.1f} points (ECE); "
    title += f"on average it is {abs(bias):.1f} points too {'high' if bias > 0 else 'low'}"
    reading = (
        "On the diagonal, answers of 80% confidence are right 80% of the time. Lines: 95% interval. "
        f"{_images(evaluation).capitalize()}, {metrics.CALIBRATION_BINS} bins."
    )
    held = np.round(share * total)
    intervals = np.array([metrics.wilson_interval(round(a * n), round(n)) for a, n in zip(accuracy, held, strict=True)])
    with picture(path, title, reading, height=6.2) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot((0, 1), (0, 1), color=MUTED, linestyle="--", linewidth=1, label="perfectly calibrated")
        upper.vlines(confidence, accuracy, confidence, color=WRONG_PALE, linewidth=10, label="gap")
        upper.vlines(confidence, *intervals.T, color=RIGHT, linewidth=1.4)
        upper.plot(confidence, accuracy, "o", color=RIGHT, markersize=6, label="accuracy of the bin")
        upper.set(ylabel="Accuracy", ylim=(-0.02, 1.02))
        upper.legend(loc="upper left")
        step = 1 / metrics.CALIBRATION_BINS
        places = np.minimum(confidence // step, metrics.CALIBRATION_BINS - 1) * step
        lower.bar(places, share, width=step, align="edge", color=NEUTRAL, edgecolor="white")
        lower.set(ylabel="Share of images", xlabel="Confidence: probability of the predicted class", xlim=(0, 1.01))
        for axis in (upper.yaxis, lower.yaxis, lower.xaxis):
            axis.set_major_formatter(percent_ticks)
        figure.align_ylabels((upper, lower))


def _images(evaluation: Row) -> str:
    """`10,000 test images`; the split is named where the stage has added it."""
    return count(evaluation["images"], f"{evaluation['split']} image" if "split" in evaluation else "image")
