"""How the training went."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from peregrine.stages.plots.frame import INK, MUTED, NEUTRAL, RIGHT, WRONG, Row, percent_ticks, picture
from peregrine.stages.wording import count, percent


def training_history(rows: Sequence[Row], best_epoch: int, path: Path, judged_on: str = "validation") -> None:
    """Draw accuracy, loss and learning rate over the epochs.

    Args:
        rows: `EpochRow`s as plain values, at least one; the validation columns may be None.
        best_epoch: the epoch that was kept, counted from 1.
        judged_on: the split behind the validation columns; `test` under the policy `validation = "test"`.
    """
    epochs = [row["epoch"] for row in rows]
    best = rows[best_epoch - 1]
    judged = best["val_accuracy"] is not None
    reading = "Training: mean over the epoch, on augmented images. "
    if judged:
        title = (
            f"{percent(best['val_accuracy'])} {judged_on} accuracy in epoch {best_epoch} of {len(rows)}, which was kept"
        )
        reading += f"{judged_on.capitalize()}: at the epoch's end, on untouched images."
    else:
        title = f"Training accuracy ends at {percent(best['accuracy'])} after {count(len(rows), 'epoch')}"
        reading += "No validation images were set aside."
    with picture(path, title, reading, height=6.4) as figure:
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.1))
        marker = "o" if len(rows) <= 30 else ""
        for panel, column, label in ((panels[0], "accuracy", "Accuracy"), (panels[1], "loss", "Loss (nats)")):
            panel.plot(
                epochs, [row[column] for row in rows], color=NEUTRAL, marker=marker, markersize=4, linestyle="--",
                label="training",
            )  # fmt: skip
            if judged:
                values = [row[f"val_{column}"] for row in rows]
                panel.plot(epochs, values, color=RIGHT, marker=marker, markersize=4, linewidth=2, label=judged_on)
                panel.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":")
                panel.plot(best_epoch, best[f"val_{column}"], "D", color=WRONG, markersize=7, label="kept epoch")
            panel.set_ylabel(label)
            panel.margins(y=0.12)
        panels[0].yaxis.set_major_formatter(percent_ticks)
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        rates = [row["learning_rate"] for row in rows]
        panels[2].plot(epochs, rates, color=MUTED, marker=marker, markersize=3, linewidth=1)
        panels[2].set(ylabel="Learning\nrate", xlabel="Epoch", ylim=(0, max(rates) * 1.15 or 1))
        panels[2].yaxis.set_major_locator(MaxNLocator(2))
        panels[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        edge = 0.5 if len(rows) == 1 else min(0.5, 0.03 * (len(rows) - 1))
        panels[2].set_xlim(1 - edge, len(rows) + max(edge, 0.02 * len(rows)))
        figure.align_ylabels(panels)
