"""What accuracy costs: Candidates by accuracy against latency, throughput and size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from peregrine.stages.plots.frame import NEUTRAL, RIGHT, Row, percent_ticks, picture
from peregrine.stages.wording import are, count, number, percent, short

PANELS = {  # key of the row: what it is called, in which unit it is drawn, whether more is better
    "latency_ms_p50": ("Latency of one image, ms (p50)", 1.0, False),
    "throughput_per_s": ("Throughput, images/s", 1.0, True),
    "size_bytes": ("Size of the model, MB", 1e-6, False),
}
LEAST_ACCURACY_RANGE = 0.004  # so that what one image decides does not fill the picture


def pareto(rows: Sequence[Row], fronts: Mapping[str, Sequence[str]], path: Path) -> None:
    """Draw a panel per figure; what nothing beats is blue, joined by a line and named.

    Args:
        rows: benchmark rows with `candidate`, `accuracy` and the three figures; those without an accuracy are left out.
        fronts: by figure, the Candidates that no other beats, as in benchmark.json.
    """
    rows = [row for row in rows if row.get("accuracy") is not None]
    names = list(dict.fromkeys(name for front in fronts.values() for name in front))
    if not rows:
        return
    by_name = {row["candidate"]: row for row in rows}
    ends = [by_name[name] for name in (fronts["throughput_per_s"][0], fronts["throughput_per_s"][-1])]
    told = [
        f"{short(row['candidate'], 36)} ({percent(row['accuracy'])}, {number(row['throughput_per_s'])} images/s)"
        for row in ends
    ]
    title = f"{len(names)} of {count(len(rows), 'candidate')} {are(len(names))} beaten by no other"
    title += f": {told[0]}" if told[0] == told[1] else f", from {told[0]} to {told[1]}"
    reading = (
        "Test accuracy against what it costs. Blue: no other is as accurate and better in that figure; grey: another "
        "one is. Differences in accuracy of a few images are chance."
    )
    with picture(path, title, reading, height=3.2 + 0.19 * len(names)) as figure:
        panels = figure.subplots(1, 3, sharey=True)
        for panel, (key, (label, unit, more)) in zip(panels, PANELS.items(), strict=True):
            _panel(panel, rows, fronts[key], key, unit, names)
            panel.set_xlabel(f"{label}\n{'more' if more else 'less'} is better")
        accuracies = np.array([row["accuracy"] for row in rows])
        middle, half = (accuracies.max() + accuracies.min()) / 2, np.ptp(accuracies) / 2
        half = 1.25 * max(half, LEAST_ACCURACY_RANGE / 2)
        panels[0].set(ylabel="Test accuracy", ylim=(middle - half, min(middle + half, 1 + half / 10)))
        panels[0].yaxis.set_major_formatter(percent_ticks)
        panels[0].yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
        handles = [
            panels[0].plot([], [], " ", label=f"{place}  {short(name, 44)}")[0]
            for place, name in enumerate(names, start=1)
        ]
        figure.legend(
            handles=handles, loc="outside lower left", ncols=2 if len(names) > 3 else 1, handlelength=0, fontsize=8.5
        )


def _panel(panel: Axes, rows: Sequence[Row], front: Sequence[str], key: str, unit: float, names: Sequence[str]) -> None:
    points = {row["candidate"]: (unit * row[key], row["accuracy"]) for row in rows}
    others = np.array([point for name, point in points.items() if name not in front]).reshape(-1, 2)
    best = sorted(points[name] for name in front)
    panel.scatter(others[:, 0], others[:, 1], s=26, color=NEUTRAL, alpha=0.75, linewidths=0)
    panel.plot(*zip(*best, strict=True), "-o", color=RIGHT, markersize=6, linewidth=1.2)
    for place, name in enumerate(front):
        panel.annotate(
            str(names.index(name) + 1),
            points[name],
            (6, 5 if place % 2 == 0 else -13),
            textcoords="offset points",
            fontsize=8.5,
            color=RIGHT,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0, "alpha": 0.85},
        )
    values = np.array([point[0] for point in points.values()])
    if values.max() > 8 * values.min():
        panel.set(xscale="log", xlim=(values.min() / 1.5, values.max() * 1.5))
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_xlim(0, values.max() * 1.15)
        panel.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
