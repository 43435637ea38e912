"""What the rows of `training.py` come to: a table, and a picture of accuracy over time."""

import statistics
from pathlib import Path
from typing import Any

from peregrine.stages.plots.frame import INK, MUTED, NEUTRAL, RIGHT, WRONG, percent_ticks, picture

Row = dict[str, Any]
COLOURS = (RIGHT, WRONG, INK, NEUTRAL, MUTED)  # ours first
MARKERS = "Ds^vo"


def of_each(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows by contender, in the order of their first runs."""
    return {who: [row for row in rows if row["who"] == who] for who in dict.fromkeys(row["who"] for row in rows)}


def spread(values: list[float | None], scale: float = 1.0) -> str:
    """`94.01 ± 0.12`: mean and standard deviation; nothing of what is missing."""
    found = [scale * value for value in values if value is not None]
    if not found:
        return "–"
    deviation = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{deviation}"


def seconds(rows: list[Row]) -> float:
    return statistics.mean(float(row["training_seconds"]) for row in rows)


def table(rows: list[Row], ours: str) -> str:
    """Means with standard deviations over the runs, and the ratio of mean times to ours."""
    found = of_each(rows)
    lines = [("", "runs", "training s", "test %", "with TTA %", f"time / {ours}")]
    lines += [
        (
            who,
            str(len(mine)),
            spread([row["training_seconds"] for row in mine]),
            spread([row["accuracy"] for row in mine], 100),
            spread([row["accuracy_tta"] for row in mine], 100),
            f"{seconds(mine) / seconds(found[ours]):.2f}",
        )
        for who, mine in found.items()
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def median_curve(rows: list[Row]) -> list[tuple[float, float]]:
    """Epoch by epoch, the median of the times and that of the accuracies."""
    return [
        (statistics.median(when for when, _ in epoch), statistics.median(accuracy for _, accuracy in epoch))
        for epoch in zip(*(row["curve"] for row in rows), strict=False)
    ]


def draw(rows: list[Row], ours: str, path: Path) -> None:
    """Test accuracy over the seconds of training: a thin line for each run, the median bold, a marker with TTA."""
    found = of_each(rows)
    parts = [
        f"{who} {spread([row['accuracy'] for row in mine], 100)}% in {seconds(mine):,.1f} s"
        for who, mine in found.items()
    ]
    reading = (
        "Test accuracy after each epoch without test-time augmentation, on all training images, nothing chosen. Thin: "
        "each run; bold: the median of the runs. Markers: each run's end with test-time augmentation where it is known."
    )
    with picture(path, "; ".join(parts), reading, height=4.6) as figure:
        axes = figure.subplots()
        for number, (who, mine) in enumerate(found.items()):
            colour = COLOURS[number % len(COLOURS)]
            for row in mine:
                if row["curve"]:
                    axes.plot(*zip(*row["curve"], strict=True), color=colour, linewidth=0.7, alpha=0.5)
            median = median_curve(mine)
            axes.plot(*(zip(*median, strict=True) if median else ([], [])), color=colour, linewidth=2.4, label=who)
            ends = [
                (row["training_seconds"], row["accuracy"] if row["accuracy_tta"] is None else row["accuracy_tta"])
                for row in mine
            ]
            axes.plot(*zip(*ends, strict=True), MARKERS[number % len(MARKERS)], color=colour, markersize=6)
        axes.set(xlabel="Seconds of training", ylabel="Test accuracy")
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(percent_ticks)
        axes.legend(loc="lower right")
