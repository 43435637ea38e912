"""The charts of training and evaluation, made from the result files' numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peregrine.metrics import CALIBRATION_BINS
from peregrine.stages import wording
from peregrine.stages.reporting.charts import Axis, Bar, Chart, Point, Rule, Series, line_through, padded, place

Row = Mapping[str, Any]
MOST_POINTS = 300  # of a curve; more cannot be told apart
RARE = 0.01  # share of the images in a bin whose accuracy tells little


def training(rows: Sequence[Row], best_epoch: int | None, judged_on: str, goes_on: bool = False) -> list[Chart]:
    """Accuracy, loss, learning rate and speed over the epochs.

    Args:
        rows: `EpochRow`s as plain values; the validation columns may be None.
        best_epoch: the epoch that was, or would be, kept.
        judged_on: the split behind the validation columns; "" for none.
        goes_on: a later epoch may still be better.
    """
    if not rows:
        return []
    best = (best_epoch, "best so far" if goes_on else "kept") if best_epoch and judged_on else None
    judged = {"training": "", judged_on: "val_"} if judged_on else {"": ""}
    alone = {"": ""}
    return [
        _epochs(Quantity("accuracy", "Accuracy", "share of right answers", wording.percent), rows, judged, best),
        _epochs(Quantity("loss", "Loss", "cross-entropy in nats", wording.number), rows, judged, best),
        _epochs(Quantity("learning_rate", "Learning rate", "at the epoch's last step", _compact), rows, alone, None),
        _epochs(Quantity("images_per_s", "Speed", "training images per second", wording.number), rows, alone, None),
    ]


@dataclass(frozen=True)
class Quantity:
    """A column of the history, how it is called, what it is, and how a value of it is written."""

    column: str
    title: str
    meaning: str
    text: Callable[[float], str]


def _epochs(quantity: Quantity, rows: Sequence[Row], curves: Mapping[str, str], best: tuple[int, str] | None) -> Chart:
    """A quantity over the epochs.

    Args:
        curves: the name of each curve, and what stands before the quantity in the name of its column.
        best: the epoch that was, or would be, kept, and which of the two.
    """
    kept, why = best or (None, "")
    shown = _thinned(rows, kept)
    columns = {name: before + quantity.column for name, before in curves.items()}
    across, up = _axes(quantity, rows, [row[column] for row in shown for column in columns.values()])
    series = []
    for name, column in columns.items():
        points = tuple(
            Point(
                *place(across, up, row["epoch"], row[column]),
                f"Epoch {row['epoch']}{f', {name}' if name else ''}: {quantity.text(row[column])}",
                kinds=("kept",) if row["epoch"] == kept and column.startswith("val_") else (),
            )
            for row in shown
        )
        kind = "plain" if name == "training" else "main"
        series.append(Series(name, kind, points, line_through(points)))
    rules: tuple[Rule, ...] = ()
    if kept:
        x, _ = place(across, up, kept, up.low)
        rules = (Rule(x, 0, x, 100, "kept", f"epoch {kept}, {why}"),)
    return Chart(
        f"curve-{quantity.column}",
        quantity.title,
        _in_words(quantity, rows, kept, [name for name in curves if name not in ("", "training")]),
        across,
        up,
        tuple(series),
        rules=rules,
        columns=("Epoch", *(name.capitalize() or quantity.title for name in columns)),
        rows=tuple((str(row["epoch"]), *(quantity.text(row[column]) for column in columns.values())) for row in shown),
    )


def _axes(quantity: Quantity, rows: Sequence[Row], values: Sequence[float]) -> tuple[Axis, Axis]:
    """Accuracy and loss use the height for their range, the others begin at zero."""
    share = quantity.column == "accuracy"
    low, high = padded(values, least=0.01) if share or quantity.column == "loss" else (0.0, 1.1 * max(values))
    low, high = max(low, 0.0), min(high, 1.0) if share else high or 1.0
    first, last = rows[0]["epoch"], rows[-1]["epoch"]
    alone = first == last
    return (
        Axis("Epoch", first - alone, last + alone, _whole, whole=True),
        Axis(quantity.title, low, high, _short_percent if share else _plain),
    )


def _in_words(quantity: Quantity, rows: Sequence[Row], kept: int | None, judged: Sequence[str]) -> str:
    """Where the curves begin and end."""
    first, last = rows[0], rows[-1]
    said = f"{quantity.meaning.capitalize()}: {quantity.text(first[quantity.column])}"
    if last is not first:
        said += f" in epoch {first['epoch']}, {quantity.text(last[quantity.column])} in epoch {last['epoch']}"
    for name in judged:
        row = next((row for row in rows if row["epoch"] == kept), last)
        said += f"; {name} {quantity.text(row[f'val_{quantity.column}'])} in epoch {row['epoch']}"
    return said + "."


def _thinned(rows: Sequence[Row], best_epoch: int | None) -> list[Row]:
    """At most `MOST_POINTS` rows, the first, the last and the kept one among them."""
    step = -(-len(rows) // MOST_POINTS)
    return [row for number, row in enumerate(rows) if number % step == 0 or row["epoch"] in (best_epoch, len(rows))]


def reliability(bins: Sequence[Row], ece: float) -> Chart:
    """Accuracy against confidence: on the diagonal, the model is as sure as it is right."""
    across, up = (Axis(label, 0.0, 1.0, _short_percent) for label in ("Confidence", "Accuracy"))
    points = tuple(
        Point(
            *place(across, up, one["confidence"], one["accuracy"]),
            f"{wording.percent(one['share'])} of the images: {wording.percent(one['confidence'])} sure on average, "
            f"{wording.percent(one['accuracy'])} right",
            kinds=("rare",) if one["share"] < RARE else (),
        )
        for one in bins
    )
    line = line_through([point for point in points if "rare" not in point.kinds])
    return Chart(
        "reliability",
        f"Sure and right differ by {wording.percent(ece)} on average",
        "Accuracy of images with like confidence. On the dashed line a model is exactly as sure as it is right; above "
        "it, it is too modest. Hollow: fewer than 1% of the images.",
        across,
        up,
        (Series("this model", "main", points, line),),
        rules=(Rule(0, 100, 100, 0, "ideal", "ideal"),),
        columns=("Confidence", "Accuracy", "Share of images"),
        rows=tuple(tuple(wording.percent(one[key]) for key in ("confidence", "accuracy", "share")) for one in bins),
    )


def confidence(bins: Sequence[Row]) -> Chart:
    """How sure right and wrong answers are: of each kind, the share in every bin of confidence."""
    groups = {
        "right": [one["share"] * one["accuracy"] for one in bins],
        "wrong": [one["share"] * (1 - one["accuracy"]) for one in bins],
    }
    shares = {name: [value / (sum(values) or 1) for value in values] for name, values in groups.items()}
    top = max(max(values) for values in shares.values())
    across = Axis("Confidence", 0, 1, _short_percent)
    up = Axis("Share", 0, min(1.05 * top, 1.0), _short_percent)
    width = 100 / CALIBRATION_BINS
    bars = []
    for number, (name, kind) in enumerate((("right", "main"), ("wrong", "wrong"))):
        for one, share in zip(bins, shares[name], strict=True):
            slot = min(int(one["confidence"] * CALIBRATION_BINS), CALIBRATION_BINS - 1)
            height = 100 * up.share(share)
            edges = f"{100 * slot // CALIBRATION_BINS}% to {100 * (slot + 1) // CALIBRATION_BINS}%"
            tip = f"{wording.percent(share)} of the {name} answers are {edges} sure"
            left = (slot + 0.1 + 0.42 * number) * width
            x, y, wide, high = (round(value, 3) for value in (left, 100 - height, 0.38 * width, height))
            bars.append(Bar(x, y, wide, high, kind, tip))
    bold = shares["wrong"][-1] if bins[-1]["confidence"] >= 1 - 1 / CALIBRATION_BINS else 0.0
    title = f"{wording.percent(bold)} of the wrong answers are at least {100 * (1 - 1 / CALIBRATION_BINS):.0f}% sure"
    return Chart(
        "confidence",
        title if sum(groups["wrong"]) else "No answer is wrong",
        "How sure the right answers are, and the wrong ones; the bars of each add up to 100%.",
        across,
        up,
        (Series("right", "main", ()), Series("wrong", "wrong", ())),
        bars=tuple(bars),
        columns=("Confidence", "Of right answers", "Of wrong answers"),
        rows=tuple(
            (wording.percent(one["confidence"]), wording.percent(right), wording.percent(wrong))
            for one, right, wrong in zip(bins, shares["right"], shares["wrong"], strict=True)
        ),
        near="xy",
    )


def coverage(rows: Sequence[Row], reject: Row | None) -> Chart:
    """Accuracy of the answers that are given, when the least certain ones are not."""
    rows = sorted(rows, key=lambda row: row["coverage"])
    known = [row for row in rows if row.get("accuracy") is not None]
    low, high = padded([row["accuracy"] for row in known], 0.1, 0.02)
    across = Axis("Share of images that get an answer", min(row["coverage"] for row in known), 1.0, _short_percent)
    if across.low >= 1.0:
        across = Axis(across.label, 0.0, 1.0, _short_percent)
    up = Axis("Accuracy", max(low, 0.0), min(high, 1.0), _short_percent)
    points = tuple(
        Point(
            *place(across, up, row["coverage"], row["accuracy"]),
            f"Threshold {row['threshold']:.3f}: {wording.percent(row['coverage'])} answered, "
            f"{wording.percent(row['accuracy'])} of them right",
        )
        for row in known
    )
    rules: tuple[Rule, ...] = ()
    title = "The less it answers, the more is right"
    if reject and reject["threshold"] > 0:
        x, _ = place(across, up, min(max(reject["coverage"], across.low), 1.0), up.low)
        rules = (Rule(x, 0, x, 100, "kept", "reject threshold"),)
        title = (
            f"Below {reject['threshold']:.2f} no answer: {wording.percent(reject['coverage'])} are answered, "
            f"{wording.percent(reject['accuracy'])} of these right"
        )
    return Chart(
        "coverage",
        title,
        "Accuracy of the answers that are given when those below a threshold of confidence are withheld.",
        across,
        up,
        (Series("accuracy", "main", points, line_through(points)),),
        rules=rules,
        columns=("Threshold", "Answered", "Accuracy"),
        rows=tuple(
            (f"{row['threshold']:.3f}", wording.percent(row["coverage"]), wording.percent(row["accuracy"]))
            for row in known
        ),
    )


def _short_percent(share: float) -> str:
    return f"{round(100 * share, 6):g}%"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _compact(value: float) -> str:
    return f"{value:.3g}"
