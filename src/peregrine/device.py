"""Where arrays and tables are computed: on the CPU, or on an NVIDIA GPU from the size on where that is faster.

`PEREGRINE_DEVICE` decides: `cpu`, `cuda` (an error where the GPU cannot be used) or `auto`, which is the default. The
engines and the runtimes choose their devices on their own.
"""

import functools
import logging
import os
from dataclasses import dataclass
from typing import Any

from peregrine import catalog, host
from peregrine.errors import MissingDependency, MissingDevice, PeregrineError, UsageError

VARIABLE = "PEREGRINE_DEVICE"
SETTINGS = ("cpu", "cuda", "auto")
KINDS = {"arrays": "CuPy", "tables": "cuDF"}  # and the library that serves them on a GPU

# How much there has to be to do, for a process to be done sooner with the GPU; the start of the libraries and transfers
# are counted. ESTIMATED, as no GPU has measured it yet: docs/adr/0018-rapids.md tells how. On a machine with a GPU,
# `python benchmarks/rapids.py` measures it and prints this table.
PAYS_FROM = {
    "statistics": 1_500_000_000,  # pixels of three channels
    "whitening": 80_000_000,  # pixels
    "packing": 1_200_000_000,  # pixels on their way to a GPU
    "reshaping": 2_000_000_000,  # pixels, there and back again
    "comparing": 800_000_000,  # pairs of hashes
    "grouping": 300_000_000,  # rows
}

_log = logging.getLogger("peregrine")


@dataclass(frozen=True)
class _Found:
    """The library of a kind on the GPU, or why there is none; `broken` where it is installed and does not work."""

    library: Any = None
    problem: PeregrineError | None = None
    broken: bool = False


def setting() -> str:
    """What `PEREGRINE_DEVICE` says.

    Raises:
        UsageError: it is none of `SETTINGS`.
    """
    wanted = os.environ.get(VARIABLE) or "auto"
    if wanted not in SETTINGS:
        raise UsageError(f"{VARIABLE} is cpu, cuda or auto; got {wanted!r}")
    return wanted


def serving(kind: str, task: str, amount: int) -> Any | None:
    """The catalogue's module that does a task on the GPU, or None where the CPU is to do it.

    Args:
        kind: `arrays` or `tables`.
        task: a key of `PAYS_FROM`.
        amount: how much there is to do, in the task's unit.

    Raises:
        UsageError: `PEREGRINE_DEVICE` is nonsense.
        MissingDevice, MissingDependency: it asks for the GPU, and there is none, or the library cannot use it.
    """
    wanted = setting()
    if wanted == "cpu" or (wanted == "auto" and amount < PAYS_FROM[task]):
        return None  # nothing is looked for and nothing heavy imported
    found = _find(kind)
    if found.problem and wanted == "cuda":
        raise found.problem
    if found.broken:
        _warn(kind)
    return found.library


def describe() -> dict[str, Any]:
    """What `peregrine doctor` tells: the `setting`, the `gpu`'s name, and where each of `KINDS` is computed and why.

    Raises:
        UsageError: `PEREGRINE_DEVICE` is nonsense.
    """
    wanted, gpu = setting(), host.find_gpu()
    return {"setting": wanted, "gpu": gpu.name if gpu else None, **{kind: _told(kind, wanted) for kind in KINDS}}


def _told(kind: str, wanted: str) -> dict[str, str]:
    if wanted == "cpu":
        return {"device": "cpu", "reason": f"{VARIABLE}=cpu"}
    if not host.find_gpu():
        return {"device": "cpu" if wanted == "auto" else "none", "reason": "there is no NVIDIA GPU, or no driver of it"}
    found = _find(kind)
    if found.problem:
        return {"device": "cpu" if wanted == "auto" else "none", "reason": str(found.problem)}
    reason = "where it is faster" if wanted == "auto" else f"{VARIABLE}=cuda"
    return {"device": "cuda", "reason": reason}


@functools.cache
def _find(kind: str) -> _Found:
    """Looked for once per process: the driver, then the library, then whether it can compute."""
    name = KINDS[kind]
    if not host.find_gpu():
        return _Found(
            problem=MissingDevice(f"{VARIABLE}=cuda needs an NVIDIA GPU and its driver; found none; use cpu or auto")
        )
    try:
        library = catalog.load(kind, "cuda")
        library.check()
    except MissingDependency as missing:
        return _Found(problem=missing)
    except Exception as error:  # a driver that is too old, a library of another CUDA: each has its own
        reason = error.__cause__ or error
        lines = str(reason).strip().splitlines() or [type(reason).__name__]
        said = f"{name} is installed and cannot use the GPU: {lines[-1].strip()}; {VARIABLE}=cpu does without"
        return _Found(problem=MissingDevice(said), broken=True)
    return _Found(library)


@functools.cache
def _warn(kind: str) -> None:
    """Once per process."""
    _log.warning("%s are computed on the CPU: %s", kind, _find(kind).problem)
