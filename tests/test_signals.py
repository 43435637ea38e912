"""The first signal asks, the second Ctrl-C insists."""

import signal
import threading

import pytest

from machine import python
from peregrine.signals import stop_request


@pytest.mark.parametrize(
    ("signum", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_becomes_a_request(signum: signal.Signals, status: int, name: str) -> None:
    before = signal.getsignal(signum)
    with stop_request() as stop:
        assert not stop
        signal.raise_signal(signum)  # to this thread: a library's may not take it
        assert stop
        error = stop.interrupted("epoch 3 is saved; go on with --resume")
    assert str(error) == f"stopped by {name}: epoch 3 is saved; go on with --resume"
    assert error.exit_code == status
    assert signal.getsignal(signum) is before


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    with stop_request() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_in_other_threads_nothing_is_asked() -> None:
    found: list[bool] = []

    def work() -> None:
        with stop_request() as stop:
            found.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_afterwards_signals_do_what_they_did() -> None:
    script = """
import os, signal
from peregrine.signals import stop_request
with stop_request():
    pass
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert python(script).returncode == -signal.SIGTERM
