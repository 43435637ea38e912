"""Where data lies on this machine: the user's own folder, and Peregrine's cache."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs

from peregrine import files
from peregrine.errors import UsageError

_log = logging.getLogger("peregrine")


def expanded(path: str | Path) -> Path:
    """A path with the home folder for `~`; that of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path.expanduser raises RuntimeError then


def data_folder() -> Path | None:
    """The folder that `PEREGRINE_DATA` names, where named sources are looked for first; None when it is not set.

    Raises:
        UsageError: the variable is set and there is no such folder.
    """
    named = os.environ.get("PEREGRINE_DATA")
    if not named:
        return None
    folder = expanded(named)
    if not folder.is_dir():
        raise UsageError(f"PEREGRINE_DATA names an existing folder; got {named!r}; create it or unset the variable")
    return folder


def cache_folder() -> Path:
    """The folder for downloads and prepared data: `PEREGRINE_CACHE`, by default the platform's cache folder."""
    named = os.environ.get("PEREGRINE_CACHE")
    return expanded(named).absolute() if named else Path(platformdirs.user_cache_dir("peregrine"))


@contextlib.contextmanager
def lock(path: Path, writing_to: Path) -> Iterator[None]:
    """Hold the lock file `path`, once no other process does; `writing_to` is what messages say they write to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        _log.info("waiting for another process that is writing to %s", writing_to)
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create `folder`, be the only process that writes in it, and clear away what killed writers left there."""
    with lock(folder / ".lock", folder):
        files.sweep(folder)
        yield
