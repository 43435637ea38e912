"""Progress of long work, without knowing how it is shown.

    with progress.bar("train", total=steps, unit="step") as advance:
        for step in ...:
            advance(1, note="loss 1.32")

Like `logging`, one display serves the whole process: the command line installs one with `show_on`; the Python API has
none by default and stays silent. Messages go through `logging.getLogger("peregrine")`.
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Advance(Protocol):
    """Report `amount` more units done, with a short `note` to show beside the bar."""

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


class Display(Protocol):
    """Something that can show bars: a terminal, a log, a web page."""

    def bar(self, label: str, total: int | None, unit: str) -> contextlib.AbstractContextManager[Advance]: ...


class _Silent:
    @contextlib.contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda amount=1, note="": None


_display: Display = _Silent()


def bar(label: str, total: int | None, unit: str = "it") -> contextlib.AbstractContextManager[Advance]:
    """Open a bar on the current display; `total` None is work of unknown length."""
    return _display.bar(label, total, unit)


@contextlib.contextmanager
def show_on(display: Display) -> Iterator[None]:
    """Show all bars on `display` inside the block."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before
