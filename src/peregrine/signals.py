"""Stopping politely: Ctrl-C and SIGTERM ask, the work saves and leaves; or, with nothing to save, clears up."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from peregrine.errors import Interrupted


class Terminated(SystemExit):
    """SIGTERM, on its way out through every `finally`; nobody takes it for an error that costs one part of the work."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def raise_on_sigterm() -> None:
    """Let SIGTERM end the process as Ctrl-C does, by an exception: by itself it would leave everything as it is.

    It does so once: `timeout` sends it to a process and to its group, and the second must not cut clearing up short.
    """

    def leave(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, leave)


class StopRequest:
    """Whether a signal asked to stop; long loops look at it between two steps.

    Attributes:
        signum: which signal did.
        ends_anyway: the process is about to end by an error; SIGTERM is ignored after the block too. torchrun sends it
            to all processes as soon as one of them has ended, and it would hide why this one did.
        saved: what is safe and how to go on, once there is nothing to save any more; a signal interrupts at once then.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.ends_anyway = False
        self.saved: str | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def interrupt_at_once(self, saved: str) -> None:
        """Let signals from now on raise `Interrupted` wherever the work is: nobody has to look, and all is saved.

        Raises:
            Interrupted: a signal came before, and nobody looked any more.
        """
        self.saved = saved
        if self:
            raise self.interrupted(saved)

    def interrupted(self, saved: str) -> Interrupted:
        """The error to raise after saving; `saved` says what is safe and how to go on."""
        name = "Ctrl-C" if self.signum == signal.SIGINT else "SIGTERM"
        return Interrupted(f"stopped by {name}: {saved}", self.signum or signal.SIGINT)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM inside the block into a request; the second SIGINT interrupts at once.

    After `interrupt_at_once`, every signal does.

    Outside the main thread, where Python delivers no signals, the request stays false.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        if request and signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = signum
        if request.saved is not None:
            raise request.interrupted(request.saved)

    before = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            ignored = request.ends_anyway and signum == signal.SIGTERM
            signal.signal(signum, signal.SIG_IGN if ignored else handler)
