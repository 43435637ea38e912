"""What changes from one model to another."""

from pathlib import Path

import numpy as np

from peregrine.stages.plots.frame import INK, MUTED, RIGHT, RIGHT_PALE, WIDE, WIDTH, WRONG, WRONG_PALE, Row, picture
from peregrine.stages.wording import count, points, short

SHOWN_CLASSES = 60  # of more, those that change most


def class_changes(comparison: Row, path: Path) -> None:
    """Draw the change of each class's accuracy in points with its paired interval, the largest gain first.

    Args:
        comparison: what `pairing.compare` returns.
    """
    rows = sorted(comparison["per_class"], key=lambda row: -abs(row["difference_points"]))[:SHOWN_CLASSES]
    rows.sort(key=lambda row: -row["difference_points"])
    reference, model = (short(comparison[key], 40) for key in ("reference", "model"))
    images = sum(row["images"] for row in comparison["per_class"])
    low, high = map(points, comparison["difference_interval"])
    title = f"{model}: {points(comparison['difference_points'])} points of accuracy against {reference}"
    title += f" (95% interval {low} to {high})"
    reading = (
        f"Change of each class's accuracy on the same {count(images, 'image')}. Lines: 95% interval of the paired "
        "difference. Right: how many images were gained and lost."
    )
    if len(rows) < len(comparison["per_class"]):
        reading += f" Shown: the {len(rows)} of {len(comparison['per_class']):,} classes that change most."
    size, pitch, width = (9.0, 0.28, WIDTH) if len(rows) <= 30 else (7.5, 0.18, WIDE)
    change = np.array([row["difference_points"] for row in rows])
    places = np.arange(len(rows))
    with picture(path, title, reading, height=0.75 + pitch * max(len(rows), 4), width=width) as figure:
        axes = figure.subplots()
        colours = [(RIGHT, RIGHT_PALE) if value >= 0 else (WRONG, WRONG_PALE) for value in change]
        axes.barh(places, change, height=0.72, color=[pale for _, pale in colours])
        for place, row, (dark, _) in zip(places, rows, colours, strict=True):
            axes.plot(row["difference_points"], place, "o", color=dark, markersize=4)
            axes.hlines(place, *row["difference_interval"], color=dark, linewidth=1.4)
            for text, end, colour in (
                (points(row["difference_points"]), 5.2 * size, INK),
                (f"+{row['gained']:,} −{row['lost']:,}", 12.5 * size, MUTED),
            ):
                axes.annotate(
                    text, (1, place), (end, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                    ha="right", va="center_baseline", fontsize=size, color=colour,
                )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [short(row["class"], 32) for row in rows], fontsize=size)
        axes.set(ylim=(max(len(rows), 4) - 0.4, -0.6), xlabel="Change of the class's accuracy, percentage points")
        axes.margins(x=0.05)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
