"""The end of an epoch, the same for both engines: history, CSV, best epoch, early stopping."""

import csv
import io
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.errors import TrainingDiverged
from peregrine.recipe import Callbacks, Recipe


@dataclass(frozen=True)
class EpochRow:
    """One epoch in numbers; `epoch` counts from 1, accuracies are fractions.

    `accuracy` and `loss` are running means over the epoch's training steps, on augmented images. The validation
    columns are None where nothing is chosen.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_s: float

    def scalars(self) -> dict[str, float]:
        """What TensorBoard shows, by tag."""
        left_out = ("epoch", "seconds")
        return {tag: value for tag, value in asdict(self).items() if tag not in left_out and value is not None}

    def __str__(self) -> str:
        """One line for the log."""
        judged = f", validation {self.val_accuracy:.2%}" if self.val_accuracy is not None else ""
        return (
            f"epoch {self.epoch}: loss {self.loss:.4f}, accuracy {self.accuracy:.2%}{judged}, "
            f"{self.images_per_s:,.0f} images/s"
        )


@dataclass
class History:
    """The rows so far and what follows from them. Part of every resume state, so nothing repeats and nothing lacks.

    Attributes:
        callbacks: the recipe's.
        chooses: whether the validation columns may decide anything; not when they were taken on the test split.
    """

    callbacks: Callbacks = field(default_factory=Callbacks)
    rows: list[EpochRow] = field(default_factory=list)
    chooses: bool = True

    def add(self, row: EpochRow) -> None:
        """Append a finished epoch.

        Raises:
            TrainingDiverged: the validation loss is no number.
        """
        if row.val_loss is not None and not math.isfinite(row.val_loss):
            raise _diverged("validation loss", row.val_loss, f"epoch {row.epoch}")
        self.rows.append(row)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation accuracy, the lower loss between equals; the last where none chooses."""
        judged = [row for row in self.rows if row.val_accuracy is not None and row.val_loss is not None]
        if not judged or not self.chooses:
            return len(self.rows)
        return max(judged, key=lambda row: (row.val_accuracy, -(row.val_loss or 0.0), -row.epoch)).epoch

    @property
    def is_best(self) -> bool:
        """Whether the newest epoch is the best so far."""
        return bool(self.rows) and self.best_epoch == self.rows[-1].epoch

    @property
    def should_stop(self) -> bool:
        """Whether the validation loss has not become better for as many epochs as early stopping has patience."""
        losses, patience = self._losses(), self.callbacks.early_stopping_patience
        if not patience or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= patience

    def learning_rate(self, scheduled: float) -> float:
        """The rate of the next step: what the schedule says, lowered once for each plateau so far.

        As in Keras' ReduceLROnPlateau, the patience starts anew with a better loss and after each fall.
        """
        callbacks, best, waited, falls = self.callbacks, math.inf, 0, 0
        for loss in self._losses() if callbacks.plateau_patience else ():
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited >= callbacks.plateau_patience:
                waited, falls = 0, falls + 1
        return max(scheduled * callbacks.plateau_factor**falls, min(scheduled, callbacks.plateau_minimum))

    def _losses(self) -> list[float]:
        """The validation losses that may decide something."""
        return [row.val_loss for row in self.rows if row.val_loss is not None] if self.chooses else []

    def to_list(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    @classmethod
    def of(cls, recipe: Recipe, rows: list[dict[str, Any]] | None = None) -> "History":
        """The history of a run with this recipe: empty, or the `rows` that `to_list` gave before."""
        return cls(
            callbacks=recipe.callbacks,
            rows=[EpochRow(**row) for row in rows or []],
            chooses=recipe.validation not in ("none", "test"),
        )

    def write_csv(self, path: Path) -> None:
        """Write all rows, atomically, so that a killed and resumed run has each epoch exactly once."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(EpochRow.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_list())
        files.write_text(path, buffer.getvalue())


def check_loss(loss: float, epoch: int, step: int) -> None:
    """Stop a run whose loss is no number any more.

    Raises:
        TrainingDiverged: names the epoch and the step, both counted from 1.
    """
    if not math.isfinite(loss):
        raise _diverged("loss", loss, f"epoch {epoch}, step {step}")


def _diverged(what: str, value: float, where: str) -> TrainingDiverged:
    return TrainingDiverged(
        f"the {what} became {value} in {where}; lower the learning rate (--set optimizer.learning_rate=…) or train in "
        "fp32 (--set precision=fp32)"
    )
