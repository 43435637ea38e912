"""What this machine has: processors, memory, accelerator; and how many threads every library may use."""

import functools
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "peregrine", "numpy", "pillow", "torch", "tensorflow", "tensorflow-cpu", "keras", "onnx", "onnxruntime",
)  # fmt: skip


@functools.cache
def threads() -> int:
    """Threads that compute-bound libraries should use: the affinity mask, cut by the cgroup's CPU quota.

    `os.cpu_count` alone is wrong in containers, where it counts the cores of the whole host.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(allowed, round(quota))) if quota else allowed


@functools.cache
def processor() -> str:
    """The processor's name, as people know it."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the CPU as Linux names them, for example `avx512_bf16`; empty where unknown."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere bf16 is many times slower than fp32.

    Source: pytorch/pytorch issues 146508 and 183815.
    """
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the cgroup's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = next(iter(_lines(Path("/sys/fs/cgroup/memory.max"))), "max")
    return min(total, int(limit)) if limit.isdigit() else total


def describe() -> dict[str, Any]:
    """The machine as plain values, for manifests, runs and reports."""
    return {
        "processor": processor(),
        "threads": threads(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "bf16": has_bf16(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide what a model computes, without importing them."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cgroup_quota(folder: Path) -> float | None:
    """CPUs allowed by cgroup v2 (`cpu.max`: quota and period in microseconds), None without a limit."""
    quota, _, period = next(iter(_lines(folder / "cpu.max")), "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
