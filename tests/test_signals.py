"""The first signal asks, the second Ctrl-C insists. In processes of their own, which may die of a signal."""

import signal

import pytest

from machine import python


def run(script: str) -> None:
    """Run a script that imports what it needs; it must end well."""
    done = python("import os, signal, threading\nfrom peregrine.signals import stop_request\n" + script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "status", "told"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_becomes_a_request(name: str, status: int, told: str) -> None:
    run(f"""
before = signal.getsignal(signal.{name})
with stop_request() as stop:
    assert not stop
    os.kill(os.getpid(), signal.{name})
    assert stop
    error = stop.interrupted("epoch 3 is saved; go on with --resume")
assert str(error) == "stopped by {told}: epoch 3 is saved; go on with --resume", error
assert error.exit_code == {status}
assert signal.getsignal(signal.{name}) is before
""")


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    run("""
with stop_request() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
""")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_where_nothing_has_to_be_saved_a_signal_interrupts_at_once(name: str) -> None:
    """Also one that came when nobody looked any more."""
    run(f"""
from peregrine.errors import Interrupted
for early in (True, False):
    try:
        with stop_request() as stop:
            if early:
                os.kill(os.getpid(), signal.{name})
            stop.interrupt_at_once("all is done")
            assert not early
            os.kill(os.getpid(), signal.{name})
            raise AssertionError("not interrupted")
    except Interrupted as error:
        assert str(error).endswith(": all is done"), error
        assert error.exit_code == 128 + signal.{name}
""")


def test_in_other_threads_nothing_is_asked() -> None:
    run("""
found = []
def work():
    with stop_request() as stop:
        found.append(bool(stop))
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert found == [False]
""")


def test_sigterm_leaves_once_and_through_every_finally() -> None:
    script = """
import os, signal
from peregrine import signals
signals.raise_on_sigterm()
with signals.stop_request() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop
try:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:
        print("took it for a failure")
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleared up")
"""
    done = python(script)
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleared up\n", "")


def test_afterwards_signals_do_what_they_did() -> None:
    script = """
import os, signal
from peregrine.signals import stop_request
with stop_request():
    pass
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert python(script).returncode == -signal.SIGTERM
