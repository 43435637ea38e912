"""How right the answers are of which a model is sure."""

from pathlib import Path

import numpy as np

from peregrine import metrics
from peregrine.stages.plots.frame import INK, MUTED, NEUTRAL, RIGHT, RIGHT_PALE, Row, percent_ticks, picture
from peregrine.stages.wording import percent


def coverage(evaluation: Row, path: Path) -> None:
    """Draw accuracy against the share of images that are answered, with the reject threshold where there is one.

    Args:
        evaluation: what the stage `evaluating` writes: `coverage`, `reject`, `accuracy`, `images`.
    """
    rows, reject = evaluation["coverage"], evaluation["reject"]
    shares, accuracy = (np.array([row[key] for row in rows]) for key in ("coverage", "accuracy"))
    title = _title(evaluation, shares, accuracy)
    reading = "Images are answered from the surest on. Band: 95% interval."
    if reject:
        reading += (
            f" The threshold was chosen on {reject['chosen_on']}, for {percent(reject['target_accuracy'])} there."
        )
    kept = np.round(shares * evaluation["images"])
    low, high = np.transpose(
        [metrics.wilson_interval(round(part * n), round(n)) for part, n in zip(accuracy, kept, strict=True)]
    )
    with picture(path, title, reading, height=4.4) as figure:
        axes = figure.subplots()
        axes.fill_between(shares, low, high, color=RIGHT_PALE, linewidth=0)
        axes.plot(shares, accuracy, color=RIGHT, marker="." if len(rows) == 1 else "")
        bottom = float(low[shares >= 0.1].min())
        if reject:
            bottom = min(bottom, reject["target_accuracy"])
            axes.axhline(reject["target_accuracy"], color=NEUTRAL, linewidth=1, linestyle="--")
            text = f"target {percent(reject['target_accuracy'])}"
            axes.annotate(text, (0.01, reject["target_accuracy"]), (0, -11), textcoords="offset points", color=MUTED)
        if reject and reject["threshold"] and reject["coverage"]:
            axes.plot(reject["coverage"], reject["accuracy"], "o", color=INK, markersize=7, zorder=5)
            text = f"confidence {percent(reject['threshold'])} or more"
            right = reject["coverage"] > 0.5
            axes.annotate(
                text, (reject["coverage"], reject["accuracy"]), (-8 if right else 8, -14), textcoords="offset points",
                ha="right" if right else "left", fontweight="bold",
            )  # fmt: skip
        axes.set(xlim=(0, 1.01), ylim=(bottom - 0.06 * (1.01 - bottom), 1 + 0.02 * (1.01 - bottom)))
        axes.set(xlabel="Share of the images that are answered", ylabel="Accuracy of these answers")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent_ticks)


def _title(evaluation: Row, shares: metrics.Floats, accuracy: metrics.Floats) -> str:
    reject, everything = evaluation["reject"], percent(evaluation["accuracy"])
    if reject and not reject["coverage"]:
        return f"No answer has {percent(reject['threshold'])} confidence or more; of all {everything} are right"
    if reject and reject["threshold"]:
        return (
            f"Answers of {percent(reject['threshold'])} confidence or more: {percent(reject['coverage'])} of the "
            f"images, {percent(reject['accuracy'])} of them right instead of {everything}"
        )
    if reject:
        return f"{everything} of all answers are right; nothing needs to be rejected"
    half = percent(accuracy[shares >= 0.5][-1])
    return f"Of the surer half of the answers {half} are right, of all {everything}"
