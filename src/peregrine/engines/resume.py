"""Resume states: whole, checksummed, the two newest kept, the older one used when the newer is damaged.

checkpoints/resume/000000123/    the optimiser step
  …                              what the engine wrote
  state.json                     position and history
  best_model.<suffix>            the best checkpoint as it was then
  checksums.json                 size and SHA-256 of all of the above; written last
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.errors import DamagedFile

KEPT = 2
logger = logging.getLogger("peregrine")


@dataclass(frozen=True)
class ResumeState:
    """A verified state to go on from: its folder, and the JSON that was saved with it."""

    folder: Path
    content: dict[str, Any]

    def restore(self, target: Path) -> None:
        """Bring a linked file (the best checkpoint) back to `target`, as it was when the state was saved."""
        source = self.folder / target.name
        if source.is_file():
            with files.writing(target) as temporary:
                shutil.copyfile(source, temporary)


@contextmanager
def saving(folder: Path, step: int, content: dict[str, Any], linked: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder for the engine's files; on leaving, the state of `step` exists as a whole.

    Args:
        folder: the run's `checkpoints/resume`.
        step: optimiser steps done so far; names the state.
        content: position and history, as JSON.
        linked: a file that belongs to the state but is written elsewhere. Such files are replaced, never changed in
            place, so a hard link keeps this version without copying it.
    """
    with files.writing_folder(folder / f"{step:09d}") as state:
        yield state
        if linked is not None and linked.exists():
            try:
                os.link(linked, state / linked.name)
            except OSError:  # a file system without hard links
                shutil.copyfile(linked, state / linked.name)
        files.write_json(state / "state.json", content)
        checksums = {
            entry.name: {"size_bytes": entry.stat().st_size, "sha256": files.sha256(entry)}
            for entry in sorted(state.iterdir())
        }
        files.write_json(state / "checksums.json", checksums)
    states = _states(folder)
    kept = [state for state in states if state.name <= f"{step:09d}"][:KEPT]  # a later one was damaged: passed over
    for state in states:
        if state not in kept:
            shutil.rmtree(state)


def newest(folder: Path) -> ResumeState | None:
    """The newest sound state, or None when there is none yet.

    A damaged state is passed over with a warning.

    Raises:
        DamagedFile: there are states, and all of them are damaged.
    """
    states = _states(folder)
    for state in states:
        try:
            _verify(state)
            return ResumeState(state, files.read_json(state / "state.json"))
        except DamagedFile as error:
            logger.warning("%s; falling back to the state before it", error)
    if states:
        raise DamagedFile(f"every resume state in {folder} is damaged; start a new run")
    return None


def _states(folder: Path) -> list[Path]:
    """Folders of states, the newest first."""
    return sorted((entry for entry in folder.glob("[0-9]*") if entry.is_dir()), reverse=True)


def _verify(state: Path) -> None:
    path = state / "checksums.json"
    if not path.is_file():
        raise DamagedFile(f"{path} is missing")
    try:
        records = {name: (record["size_bytes"], record["sha256"]) for name, record in files.read_json(path).items()}
    except (KeyError, TypeError, AttributeError):
        raise DamagedFile(f"{path} is damaged") from None
    if "state.json" not in records:
        raise DamagedFile(f"{path} is damaged")
    for name, (size, digest) in records.items():
        file = state / name
        if not file.is_file() or file.stat().st_size != size or files.sha256(file) != digest:
            raise DamagedFile(f"{file} is damaged")
