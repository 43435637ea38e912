"""The tree in the docstring is the tree in the code."""

import errno
import os
import re
import signal

import pytest

from peregrine import errors
from peregrine.errors import Interrupted, PeregrineError, machine_error, suggestion


def documented() -> dict[str, tuple[str, int]]:
    """Class name -> (parent, exit status), as drawn in the module's docstring."""
    found: dict[str, tuple[str, int]] = {}
    parents = {-1: "PeregrineError"}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([ │]*)[├└]── (\w+) +(\d+) ", line.removeprefix("    "))
        if match:
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            found[match[2]] = parents[depth - 1], int(match[3])
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {
        name: (value.__base__.__name__, value("message").exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PeregrineError) and value is not PeregrineError
    }
    assert documented() == real


def test_signals_have_the_status_that_shells_expect() -> None:
    assert Interrupted("stopped").exit_code == 130
    assert Interrupted("stopped", signal.SIGTERM).exit_code == 143


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space or choose another folder"),
        (errno.EDQUOT, "the disk quota is used up; free some space or choose another folder"),
        (errno.EACCES, "permission denied; choose a folder that you may write to"),
        (errno.EPERM, "operation not permitted; choose a folder that you may write to"),
        (errno.EROFS, "the file system is read-only; choose a folder that you may write to"),
        (errno.EIO, "input/output error; see `peregrine doctor`"),
    ],
)
def test_machine_errors_say_where_what_and_the_fix(number: int, words: str) -> None:
    error = OSError(number, os.strerror(number), "runs/x")
    assert str(machine_error(error)) == f"cannot read or write runs/x: {words}"
    assert str(machine_error(error, "elsewhere")) == f"cannot read or write elsewhere: {words}"
    assert machine_error(error).exit_code == 4


def test_machine_errors_of_libraries_are_one_line_too() -> None:
    message = str(machine_error(OSError("Unable to open file\n  (file signature not found)")))
    assert (
        message == "cannot read or write a file: unable to open file (file signature not found); see `peregrine doctor`"
    )
    assert "no reason was given" in str(machine_error(OSError()))


def test_suggestion() -> None:
    assert suggestion("onx", ["onnx", "keras"]) == "; did you mean 'onnx'?"
    assert suggestion("quagga", ["onnx", "keras"]) == ""
    assert suggestion("anything", []) == ""
