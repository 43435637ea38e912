"""How fast the Candidates are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from peregrine.stages.plots.frame import INK, RIGHT, RIGHT_PALE, Row, picture
from peregrine.stages.wording import count, number, short

ROUND_STEPS = (1, 2, 2.5, 5, 10)


def benchmark(rows: Sequence[Row], path: Path) -> None:
    """Draw latency and throughput, a line for each Candidate, the highest throughput first.

    Args:
        rows: benchmark rows, at least one: `candidate`, `precision`, `provider`, `threads`, `batch_size`,
            `latency_ms_p50`, `…_p90`, `…_p99` and `throughput_per_s`; with `latency_ms_p50_interval` and
            `throughput_per_s_interval` where they are known.
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
    if any("throughput_per_s_interval" in row for row in rows):
        reading += " Black brackets: 95% intervals of p50 and of throughput over the rounds."
    with picture(path, title, reading, height=0.8 + 0.5 * max(len(rows), 2)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _latencies(left, rows)
        _throughputs(right, rows)
        conditions = [f"{row['precision']}, {row['provider']}, {count(row['threads'], 'thread')}" for row in rows]
        names = [short(row["candidate"], 40) for row in rows]
        left.set_yticks(np.arange(len(rows)), [f"{name}\n{how}" for name, how in zip(names, conditions, strict=True)])
        left.set_ylim(max(len(rows), 2) - 0.4, -0.6)
        for panel in (left, right):
            panel.grid(False, axis="y")
            panel.tick_params(axis="y", length=0)


def _latencies(panel: Axes, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))
    middle, high, last = (np.array([row[f"latency_ms_{key}"] for row in rows]) for key in ("p50", "p90", "p99"))
    panel.hlines(places, middle, last, color=RIGHT, linewidth=1.2)
    panel.hlines(places, middle, high, color=RIGHT, linewidth=4)
    panel.plot(last, places, "|", color=RIGHT, markersize=9)
    panel.plot(middle, places, "o", color=RIGHT, markersize=6)
    _brackets(panel, rows, "latency_ms_p50_interval")
    if last.max() > 25 * middle.min():
        panel.set(xscale="log", xlim=(middle.min() / 1.6, last.max() * 1.2))
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("Latency of one image, ms (logarithmic)")
    else:
        panel.set(xlim=(0, last.max() * 1.06), xlabel="Latency of one image, ms")
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND_STEPS))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for place, p50 in zip(places, middle, strict=True):
        panel.annotate(number(p50), (p50, place), (0, 8), textcoords="offset points", fontsize=8.5, ha="center")


def _throughputs(panel: Axes, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))
    speed = np.array([row["throughput_per_s"] for row in rows])
    ends = np.array([row.get("throughput_per_s_interval", [row["throughput_per_s"]])[-1] for row in rows])
    panel.barh(places, speed, height=0.5, color=RIGHT_PALE)
    _brackets(panel, rows, "throughput_per_s_interval")
    panel.set(xlabel="Throughput, images/s", xlim=(0, ends.max() * 1.2))
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for place, per_s, end in zip(places, speed, ends, strict=True):
        where = (max(per_s, end), place)
        panel.annotate(number(per_s), where, (5, 0), textcoords="offset points", fontsize=8.5, va="center_baseline")


def _brackets(panel: Axes, rows: Sequence[Row], key: str) -> None:
    """The interval of each row that has one."""
    known = [(place, *row[key]) for place, row in enumerate(rows) if key in row]
    for place, low, high in known:
        panel.plot([low, low, high, high], [place + 0.12, place - 0.12, place - 0.12, place + 0.12], color=INK, lw=0.9)
