"""How fast the Candidates are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from peregrine.stages.plots.frame import RIGHT, RIGHT_PALE, Row, picture
from peregrine.stages.wording import count, number, short

ROUND_STEPS = (1, 2, 2.5, 5, 10)


def benchmark(rows: Sequence[Row], path: Path) -> None:
    """Draw latency and throughput, a line for each Candidate, the highest throughput first.

    Args:
        rows: benchmark rows, at least one: `candidate`, `precision`, `provider`, `threads`, `batch_size`,
            `latency_ms_p50`, `…_p90`, `…_p99` and `throughput_per_s`.
    """
    rows = sorted(rows, key=lambda row: -row["throughput_per_s"])
    fastest, soonest = rows[0], min(rows, key=lambda row: row["latency_ms_p50"])
    throughput = f"{number(fastest['throughput_per_s'])} images/s"
    latency = f"{number(soonest['latency_ms_p50'])} ms for one image"
    title = f"{short(fastest['candidate'], 36)} is the fastest: {throughput}, {latency}"
    if soonest is not fastest:
        title = f"Highest throughput: {short(fastest['candidate'], 36)}, {throughput}; "
        title += f"lowest latency: {short(soonest['candidate'], 36)}, {latency}"
    sizes = " or ".join(str(size) for size in sorted({row["batch_size"] for row in rows}))
    reading = f"Latency of one image: dot p50, thick line to p90, thin line to p99. Throughput: batches of {sizes}."
    places = np.arange(len(rows))
    middle, high, last = (np.array([row[f"latency_ms_{key}"] for row in rows]) for key in ("p50", "p90", "p99"))
    with picture(path, title, reading, height=0.8 + 0.5 * max(len(rows), 2)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        left.hlines(places, middle, last, color=RIGHT, linewidth=1.2)
        left.hlines(places, middle, high, color=RIGHT, linewidth=4)
        left.plot(last, places, "|", color=RIGHT, markersize=9)
        left.plot(middle, places, "o", color=RIGHT, markersize=6)
        if last.max() > 25 * middle.min():
            left.set(xscale="log", xlim=(middle.min() / 1.6, last.max() * 1.2))
            left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.xaxis.set_minor_locator(NullLocator())
            left.set_xlabel("Latency of one image, ms (logarithmic)")
        else:
            left.set(xlim=(0, last.max() * 1.06), xlabel="Latency of one image, ms")
            left.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND_STEPS))
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        speed = np.array([row["throughput_per_s"] for row in rows])
        right.barh(places, speed, height=0.5, color=RIGHT_PALE)
        right.set(xlabel="Throughput, images/s", xlim=(0, speed.max() * 1.2))
        right.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        for place, p50, per_s in zip(places, middle, speed, strict=True):
            offset = {"textcoords": "offset points", "fontsize": 8.5}
            left.annotate(number(p50), (p50, place), (0, 7), ha="center", **offset)
            right.annotate(number(per_s), (per_s, place), (4, 0), va="center_baseline", **offset)
        conditions = [f"{row['precision']}, {row['provider']}, {count(row['threads'], 'thread')}" for row in rows]
        names = [short(row["candidate"], 40) for row in rows]
        left.set_yticks(places, [f"{name}\n{how}" for name, how in zip(names, conditions, strict=True)])
        left.set_ylim(max(len(rows), 2) - 0.4, -0.6)
        for panel in (left, right):
            panel.grid(False, axis="y")
            panel.tick_params(axis="y", length=0)
