"""How progress and messages look: bars with the time left on a terminal, plain lines elsewhere. All on stderr."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from peregrine import host, progress

PLAIN_SECONDS = 10.0  # between two lines of one bar where there is no terminal


@contextlib.contextmanager
def showing() -> Iterator[None]:
    """Show bars and log messages on stderr inside the block; of several workers, the first alone, but for warnings."""
    logger = logging.getLogger("peregrine")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    display = _Terminal() if sys.stderr.isatty() else _Plain()
    handler = _Handler(display)
    logger.addHandler(handler)
    if host.rank():
        handler.setLevel(logging.WARNING)
    try:
        with contextlib.nullcontext() if host.rank() else progress.show_on(display):
            yield
    finally:
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, display: "_Terminal | _Plain") -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._display.say(prefix + record.getMessage())


class _Plain:
    """One line at the start, every ten seconds and at the end of each bar; readable in a log file."""

    @contextlib.contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[progress.Advance]:
        start = last = time.monotonic()
        done = 0
        said = ""

        def advance(amount: int = 1, note: str = "") -> None:
            nonlocal done, last, said
            done += amount
            said = note or said
            if total and (now := time.monotonic()) - last >= PLAIN_SECONDS:
                last = now
                left = (now - start) / max(done, 1) * (total - done)
                self.say(f"{label}: {done:,} of {total:,} {unit}s, {_duration(left)} left{_and(said)}")

        self.say(f"{label} …")
        yield advance
        self.say(f"{label}: done in {_duration(time.monotonic() - start)}{_and(said)}")

    def say(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")  # one write, so that lines of several workers stay whole
        sys.stderr.flush()


class _Terminal:
    """Rich bars; the live area is there only while something is under way."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._progress: Any = None
        self._open = 0

    @contextlib.contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[progress.Advance]:
        if self._open == 0:
            self._progress = self._new()
            self._progress.start()
        self._open += 1
        task = self._progress.add_task(label, total=total, note="", unit=unit)

        def advance(amount: int = 1, note: str = "") -> None:
            self._progress.update(task, advance=amount, **({"note": note} if note else {}))

        try:
            yield advance
            if total is None:
                self._progress.update(task, total=1, completed=1)
        finally:
            self._open -= 1
            if self._open == 0:
                self._progress.stop()

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, style="yellow" if message.startswith("warning") else "dim")

    def _new(self) -> Any:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
        )


def _and(note: str) -> str:
    return f" ({note})" if note else ""


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
