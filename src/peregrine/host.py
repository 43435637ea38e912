"""What this machine has: processors, memory, accelerator; and how many threads every library may use."""

import ctypes
import functools
import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from peregrine.errors import UsageError

LIBRARIES = (
    "peregrine", "numpy", "pillow", "torch", "tensorflow", "tensorflow-cpu", "keras", "onnx", "onnxruntime",
    "ai-edge-litert", "openvino", "nncf", "tensorrt", "tensorrt-rtx-cu13", "mlcommons-loadgen", "cupy-cuda13x",
    "cudf-cu13",
)  # fmt: skip


_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*; Source: cuda.h


@functools.cache
def threads() -> int:
    """Threads that compute-bound libraries should use: the affinity mask, cut by the cgroups' CPU quotas.

    `os.cpu_count` alone is wrong in containers, where it counts the cores of the whole host.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_cpu_quota(folder) for folder in cgroups()]
    return max(1, round(min([allowed, *quotas])))


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


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: its name, and its compute capability, such as `8.9`."""

    name: str
    capability: str


def find_gpu() -> Gpu | None:
    """The first GPU, asked of NVIDIA's driver itself, which needs no library; None without one."""
    major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    found = _ask_driver(
        lambda driver, device: driver.cuDeviceGetName(name, len(name), device),
        lambda driver, device: driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda driver, device: driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}") if found else None


def gpu_memory_bytes() -> int | None:
    """All memory of the first GPU, whoever uses it, as NVIDIA's driver tells it; None without one."""
    size = ctypes.c_size_t()
    found = _ask_driver(lambda driver, device: driver.cuDeviceTotalMem_v2(ctypes.byref(size), device))
    return size.value if found else None


def _ask_driver(*questions: Callable[[Any, ctypes.c_int], int]) -> bool:
    """Ask NVIDIA's driver about the first GPU; whether all was answered."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):  # each call gives 0, or why not
        return False
    return not any(ask(driver, device) for ask in questions)


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or a cgroup's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min([total, *(_memory_limit(folder) for folder in cgroups())]))


def resident_bytes() -> int:
    """Largest training data that a process keeps in memory as a whole: a quarter of it, or PEREGRINE_RESIDENT_GIB.

    Shared by the processes that torchrun starts on this machine, each of which keeps all of the data.

    Raises:
        UsageError: the variable is no number.
    """
    wanted = os.environ.get("PEREGRINE_RESIDENT_GIB", "")
    started = torchrun()
    sharing = max(1, started.local_ranks) if started else 1
    if not wanted:
        return memory_bytes() // 4 // sharing
    try:
        return int(float(wanted) * 2**30) // sharing
    except (ValueError, OverflowError):  # OverflowError: inf
        raise UsageError(f"PEREGRINE_RESIDENT_GIB is a number of GiB, such as 4 or 0.5; got {wanted!r}") from None


@dataclass(frozen=True)
class Torchrun:
    """What torchrun tells a process that it starts.

    Attributes:
        rank, ranks: number of this process, and how many there are, on all machines together.
        local_rank, local_ranks: the same on this machine.
        restarts, max_restarts: how often torchrun started all of them again, and how often it would.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    restarts: int
    max_restarts: int


def torchrun() -> Torchrun | None:
    """What torchrun says of this process, or None where something else started it.

    Raises:
        UsageError: the environment is not what torchrun makes.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    variables = {
        "RANK": "",
        "WORLD_SIZE": "",
        "LOCAL_RANK": "0",  # some clusters start one process per machine, and leave these out
        "LOCAL_WORLD_SIZE": "1",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }
    found = {name: os.environ.get(name, default) for name, default in variables.items()}
    if not all(text.isdecimal() for text in found.values()) or int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        said = ", ".join(f"{name}={text}" for name, text in found.items())
        raise UsageError(f"torchrun tells each process its number, RANK below WORLD_SIZE; got {said}; start it anew")
    return Torchrun(*map(int, found.values()))


def rank() -> int:
    """Which of the processes of a distributed run this one is, by torchrun or TF_CONFIG; 0 writes, or is alone.

    Raises:
        UsageError: the environment is not what torchrun makes, or TF_CONFIG not what TensorFlow wants.
    """
    started = torchrun()
    if started:
        return started.rank
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        task = json.loads(text)["task"]
        return 0 if task["type"] == "chief" else int(task["index"]) + ("chief" in json.loads(text)["cluster"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            'TF_CONFIG is JSON such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; got {text!r}'
        ) from None


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
    """Installed versions of the libraries that compute or time a model, without importing them."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def cgroups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Folders of this process's cgroup (version 2) and all above it; each one's limits hold.

    In a container the process usually sees its own as the root; a systemd slice or a batch job lies deeper.
    """
    own = next((line.removeprefix("0::/") for line in _lines(membership) if line.startswith("0::/")), "")
    path = root / own
    return [path, *(parent for parent in path.parents if parent.is_relative_to(root))]


def _cpu_quota(folder: Path) -> float:
    """CPUs allowed by `cpu.max`, which has a quota and a period in microseconds; infinite without a limit."""
    quota, _, period = next(iter(_lines(folder / "cpu.max")), "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else math.inf


def _memory_limit(folder: Path) -> float:
    """Bytes allowed by `memory.max`; infinite without a limit."""
    limit = next(iter(_lines(folder / "memory.max")), "max")
    return int(limit) if limit.isdigit() else math.inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
