"""What a training tells while it goes on: `results/live.json`, and the picture of its history.

Both engines call it after each look at their losses and after each epoch; nearly always it does nothing. What it
does is kept far below what can be measured: live.json is written once a second at most and takes less than a 300th of
the time, the picture once a minute at most and less than a 200th, outside of what counts as training.
"""

import contextlib
import time
from types import TracebackType
from typing import Any, Self

from peregrine import files
from peregrine.engines.history import History
from peregrine.errors import Interrupted
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory, now
from peregrine.stages import plots

WRITE_EVERY_S, WRITE_SHARE = 1.0, 1 / 300
DRAW_EVERY_S, DRAW_SHARE = 60.0, 1 / 200


class LiveResults:
    """Keeps a run's results current while it is trained; see `engines.base.Monitor`. A context manager.

    `live.json` has `schema`, `status` (`training`, then `done`, `interrupted` or `failed`), `started` and `updated`,
    `epoch` (counted from 1), `epochs`, `step` (of the epoch), `steps_per_epoch`, `progress` (share of all steps),
    `loss` and `accuracy` (means over the epoch at hand; None before the first look), `seconds` and `seconds_left` (of
    this command; None until they can be told), `validation` (the recipe's), `best_epoch` (None before the first end of
    an epoch) and `history`, the finished epochs. A killed training leaves the status at `training`.

    Args:
        pictures: draw the history too.
    """

    def __init__(self, run: RunDirectory, recipe: Recipe, pictures: bool) -> None:
        self._run = run
        self._recipe = recipe
        self._pictures = pictures
        self._begun = self._drawn = time.monotonic()
        self._write_pause, self._draw_pause = WRITE_EVERY_S, DRAW_EVERY_S
        self._first: tuple[float, float] | None = None  # progress at this command's first look, and when that was
        self._history: History | None = None
        self._told: dict[str, Any] = {
            "schema": 1,
            "status": "training",
            "started": now(),
            "updated": now(),
            "epoch": 1,
            "epochs": recipe.epochs,
            "step": 0,
            "steps_per_epoch": 0,
            "progress": 0.0,
            "loss": None,
            "accuracy": None,
            "seconds": 0.0,
            "seconds_left": None,
            "validation": recipe.validation,
            "best_epoch": None,
            "history": [],
        }

    def __enter__(self) -> Self:
        self._write("training")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            status = "done"
        else:
            status = "interrupted" if issubclass(kind, (Interrupted, KeyboardInterrupt)) else "failed"
        self._write(status)

    def step(self, history: History, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Tell that `step` of the `steps` of the epoch at hand are done, with these means over them."""
        due = time.monotonic() - self._written >= self._write_pause
        if due or self._first is None:
            self._tell(history, step, steps, loss, accuracy)
        if due:
            self._write("training")

    def epoch(self, history: History) -> None:
        """Tell that an epoch is finished; `history` has it."""
        last = history.rows[-1]
        self._tell(history, 0, self._told["steps_per_epoch"], last.loss, last.accuracy)
        if time.monotonic() - self._written >= self._write_pause:
            self._write("training")
        began = time.monotonic()
        if self._pictures and began - self._drawn >= self._draw_pause:
            self._draw(history)
            self._drawn = time.monotonic()
            self._draw_pause = max(DRAW_EVERY_S, (self._drawn - began) / DRAW_SHARE)

    def _tell(self, history: History, step: int, steps: int, loss: float, accuracy: float) -> None:
        done = len(history.rows)
        progress = min((done + step / max(steps, 1)) / self._recipe.epochs, 1.0)
        moment = time.monotonic()
        if self._first is None:
            self._first = progress, moment
        advanced, passed = progress - self._first[0], moment - self._first[1]
        self._history = history
        self._told |= {
            "epoch": min(done + 1, self._recipe.epochs),
            "step": step if done < self._recipe.epochs else steps,
            "steps_per_epoch": steps,
            "progress": progress,
            "loss": loss,
            "accuracy": accuracy,
            "seconds": moment - self._begun,
            "seconds_left": passed / advanced * (1 - progress) if advanced > 0.01 else None,
        }

    def _write(self, status: str) -> None:
        began = time.monotonic()
        rows = self._history.to_list() if self._history else []
        best = self._history.best_epoch if self._history and rows else None
        told = {**self._told, "status": status, "updated": now(), "best_epoch": best, "history": rows}
        with contextlib.suppress(OSError):  # whatever the disk has, what must be saved will tell it
            files.replace_json(self._run.results / "live.json", told)
        self._written = time.monotonic()
        self._write_pause = max(WRITE_EVERY_S, (self._written - began) / WRITE_SHARE)

    def _draw(self, history: History) -> None:
        judged_on = "test" if self._recipe.validation == "test" else "validation"
        path = self._run.results / "training_history.png"
        with contextlib.suppress(OSError):
            plots.training_history(history.to_list(), history.best_epoch, path, judged_on)
