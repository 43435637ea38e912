"""Bars go where the process shows them, and nowhere by default."""

import contextlib
from collections.abc import Iterator

import pytest

from peregrine import progress


class Recorder:
    """A display that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    @contextlib.contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[progress.Advance]:
        def advance(amount: int = 1, note: str = "") -> None:
            self.events.append((amount, note))

        self.events.append((label, total, unit))
        yield advance
        self.events.append(("end",))


def work(then: type[Exception] | None = None) -> None:
    with progress.bar("train", total=2, unit="step") as advance:
        advance()
        advance(1, note="loss 1.32")
    if then:
        raise then


def test_silent_unless_shown(capfd: pytest.CaptureFixture[str]) -> None:
    work()
    assert capfd.readouterr() == ("", "")


def test_shown_inside_the_block_only() -> None:
    outer, inner = Recorder(), Recorder()
    with progress.show_on(outer):
        with pytest.raises(RuntimeError), progress.show_on(inner):
            work(then=RuntimeError)
        work()
    work()
    assert inner.events == outer.events == [("train", 2, "step"), (1, ""), (1, "loss 1.32"), ("end",)]
