"""Every error that a user can cause, as one small tree.

    PeregrineError                   exit status
    ├── UsageError                   2    a flag, a name or an input that cannot be used
    │   ├── RecipeError              2    a recipe that breaks a rule
    │   └── DataError                2    a data set that cannot be trained on
    ├── CheckFailed                  1    something was looked at and is not right
    │   ├── DamagedFile              1    a file that is not what its checksum or format says
    │   ├── ParityFailed             1    an export that predicts something else
    │   └── TrainingDiverged         1    the loss is not a number any more
    ├── MissingDependency            3    a library that is not installed
    ├── MissingDevice                3    hardware that is not here
    ├── MachineError                 4    disk, memory or permission
    └── Interrupted                  130  Ctrl-C (143 for SIGTERM)

A message is one line: the rule, what was found, and the fix. Anything else that reaches the command line is a bug of
ours and leaves with status 70.
"""

import errno
import signal
from collections.abc import Iterable
from pathlib import Path


class PeregrineError(Exception):
    """Base of all errors that are explained in one line instead of a traceback."""

    exit_code = 70


class UsageError(PeregrineError):
    """A flag, a name or an input that cannot be used as it is."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that breaks a rule; the message names the key."""


class DataError(UsageError):
    """A data set that cannot be trained on; the message names the folder or file."""


class CheckFailed(PeregrineError):
    """Something was looked at and is not right."""

    exit_code = 1


class DamagedFile(CheckFailed):
    """A file that is not what its checksum or its format says; the message names it."""


class ParityFailed(CheckFailed):
    """An export that predicts something else than its ancestor."""


class TrainingDiverged(CheckFailed):
    """The loss became NaN or infinite; the message names the step."""


class MissingDependency(PeregrineError):
    """A library that is not installed; the message names the extra that brings it."""

    exit_code = 3


class MissingDevice(PeregrineError):
    """Hardware that this machine does not have."""

    exit_code = 3


class MachineError(PeregrineError):
    """The machine failed: disk, memory or permission."""

    exit_code = 4


class Interrupted(PeregrineError):
    """A signal asked the program to stop; what could be saved was saved.

    Args:
        signum: `signal.SIGINT` or `signal.SIGTERM`.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


_FIXES = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("operation not permitted", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose a folder that you may write to"),
}


def machine_error(error: OSError, path: Path | str | None = None) -> MachineError:
    """Explain an `OSError` in the words of a user: what failed, where, and what to do.

    Args:
        path: what was being read or written, where the error does not know it or knows only a temporary name.
    """
    where = path or error.filename or "a file"
    words = " ".join((error.strerror or str(error) or "no reason was given").split())
    found, fix = _FIXES.get(error.errno or 0, (words[:1].lower() + words[1:], "see `peregrine doctor`"))
    return MachineError(f"cannot read or write {where}: {found}; {fix}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: `; did you mean 'onnx'?` after a near miss, else nothing."""
    import difflib  # here, because only the error path needs it

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
