"""Images with what was said of them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from peregrine.dataset import Dataset, Images
from peregrine.metrics import Floats
from peregrine.stages.plots.frame import (
    MARGIN,
    MUTED,
    NEUTRAL,
    NEUTRAL_PALE,
    PAPER,
    RIGHT,
    RIGHT_PALE,
    WRONG,
    WRONG_PALE,
    box,
    picture,
    write,
)
from peregrine.stages.wording import are, count, short, sure

COLUMNS, PITCH, SIDE, CAPTION = 5, 1.73, 1.58, 0.48  # of a grid of images, in inches


def prediction_samples(part: Dataset, probabilities: Floats, path: Path) -> None:
    """Draw 20 images taken at random with their answers.

    Args:
        part: at least one image; only those drawn are read.
        probabilities: `(N, C)`.
    """
    right = probabilities.argmax(1) == part.labels
    sample = np.sort(np.random.default_rng(0).permutation(len(part))[:20])
    good, all_good = int(right[sample].sum()), int(right.sum())
    title = f"{all_good:,} of {count(len(part), 'image')} {are(all_good)} right"
    reading = f"{count(len(sample), 'image')} taken at random, {good:,} right. ✓ right, with its probability. "
    reading += "✗ wrong, in a dashed frame: what was predicted, and what is true."
    _grid(part, probabilities, sample, path, title, reading)


def mistakes(part: Dataset, probabilities: Floats, path: Path) -> None:
    """Draw the 25 mistakes that were made with the most confidence; of a model without any, what it was least sure of.

    Args:
        part: at least one image; only those drawn are read.
        probabilities: `(N, C)`.
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong, of = np.flatnonzero(predicted != part.labels), count(len(part), "image")
    if len(wrong):
        chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:25]
        first = chosen[0]
        true, said = (short(part.class_names[kind[first]], 24) for kind in (part.labels, predicted))
        which = "The only mistake" if len(wrong) == 1 else f"The surest of {count(len(wrong), 'mistake')}"
        title = f"{which}: “{true}” taken for “{said}”, {sure(confidence[first])}"
        reading = f"The {len(chosen)} of {len(wrong):,} mistakes on {of} that were made with the most confidence. "
        if len(chosen) == len(wrong):
            reading = f"All mistakes on {of}, the surest first. "
        reading += "Below each: what was predicted, with its probability, and what is true."
    else:
        chosen = np.argsort(confidence, kind="stable")[:15]
        title = f"No mistake on {of}; the least certain answer has {sure(confidence[chosen[0]])}"
        reading = "The answers given with the least confidence, from the least on, each with its probability."
    _grid(part, probabilities, chosen, path, title, reading)


def prediction_sample(part: Dataset, probabilities: Floats, path: Path, top: int = 5) -> None:
    """Draw every image with its most likely classes as bars.

    Args:
        part: the images to draw, at least one.
        probabilities: `(N, C)`.
        top: bars per image, at most C.
    """
    labels, predicted = part.labels, probabilities.argmax(1)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    right_answers = int((predicted == labels).sum())
    title = f"{right_answers:,} of {count(len(part), 'image')} {are(right_answers)} right"
    reading = "Bars: the most likely classes, the true one in bold. ✓ right; ✗ wrong, in a dashed frame."
    columns, width, side, pitch = 3, 2.92, 1.25, 1.66
    rows = -(-len(part) // columns)
    height = rows * pitch
    with picture(path, title, reading, height=height) as figure:
        for index, image in enumerate(part.images):
            row, column = divmod(index, columns)
            left, bottom = MARGIN + column * width, height - row * pitch - 0.24 - side
            right = bool(predicted[index] == labels[index])
            name = str(part.ids[index])
            name = short(name if len(name) <= 17 else f"…{name[-16:]}", 17)  # of a path the end tells more
            write(figure, left, bottom + side + 0.11, name, fontsize=7.5, color=MUTED)
            truth = f"{_mark(right)} true: {short(part.class_names[labels[index]], 13)}"
            write(
                figure, left + side + 0.1, bottom + side + 0.11, truth, fontsize=7.5, fontweight="bold",
                color=_colour(right),
            )  # fmt: skip
            _thumbnail(figure, image, left, bottom, side, right)
            bars = box(figure, left + side + 0.1, bottom, width - side - 0.3, side)
            bars.set_axis_off()
            bars.set(xlim=(0, 1), ylim=(max(order.shape[1], 4) - 0.5, -0.5))
            places, shares = range(order.shape[1]), probabilities[index, order[index]]
            pale = RIGHT_PALE if right else WRONG_PALE
            bars.barh(places, 1, height=0.86, color=PAPER)
            bars.barh(places, shares, height=0.86, color=[pale if place == 0 else NEUTRAL_PALE for place in places])
            for place, label, share in zip(places, order[index], shares, strict=True):
                weight = "bold" if label == labels[index] else "normal"
                name = short(part.class_names[label], 13)
                bars.text(0.03, place, name, va="center_baseline", fontsize=7.5, fontweight=weight)
                bars.text(0.97, place, sure(share), va="center_baseline", ha="right", fontsize=7.5, fontweight=weight)


def _grid(
    part: Dataset, probabilities: Floats, chosen: npt.NDArray[np.intp], path: Path, title: str, reading: str
) -> None:
    """Images in rows, each with what was predicted, and with what is true where that differs."""
    labels, predicted, confidence = part.labels, probabilities.argmax(1), probabilities.max(1)
    height = -(-len(chosen) // COLUMNS) * (SIDE + CAPTION)
    with picture(path, title, reading, height=height) as figure:
        for place, index in enumerate(chosen):
            row, column = divmod(place, COLUMNS)
            left, bottom = MARGIN + column * PITCH, height - row * (SIDE + CAPTION) - SIDE
            right = bool(predicted[index] == labels[index])
            _thumbnail(figure, part.images[index], left, bottom, SIDE, right)
            said = f"{_mark(right)} {short(part.class_names[predicted[index]], 14)}, {sure(confidence[index])}"
            write(figure, left, bottom - 0.14, said, fontsize=8.5, fontweight="bold", color=_colour(right))
            if not right:
                true = f"true: {short(part.class_names[labels[index]], 20)}"
                write(figure, left, bottom - 0.29, true, fontsize=8.5)


def _mark(right: bool) -> str:
    return "✓" if right else "✗"


def _colour(right: bool) -> str:
    return RIGHT if right else WRONG


def _thumbnail(figure: Figure, image: Images, left: float, bottom: float, side: float, right: bool) -> None:
    """One image in its frame: thin when right, thick and dashed when wrong."""
    axes = box(figure, left, bottom, side, side)
    axes.imshow(image)
    axes.set(xticks=(), yticks=())
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(NEUTRAL if right else WRONG)
    axes.spines[:].set_linewidth(0.8 if right else 2.5)
    axes.spines[:].set_linestyle("-" if right else "--")
