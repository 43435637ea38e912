"""The device that PyTorch works on: which, how, and what it says when its memory runs out."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from peregrine import host
from peregrine.errors import MachineError, MissingDevice

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h


def pick() -> torch.device:
    """CUDA where there is one, else the CPU with the threads that `host` allows.

    Of several processes that torchrun started on this machine, each gets its own GPU or its share of the threads.

    Raises:
        MissingDevice: there are fewer GPUs than processes.
    """
    started = host.torchrun()
    _keep_freed_memory()
    torch.set_num_threads(max(1, host.threads() // (started.local_ranks if started else 1)))
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; who wants speed takes bf16
    if started is None:
        return torch.device("cuda")
    gpus = torch.cuda.device_count()
    if started.local_ranks > gpus:
        raise MissingDevice(
            f"each process of torchrun takes a GPU; got {started.local_ranks} for {gpus} on this machine; use "
            f"--nproc-per-node {gpus}"
        )
    torch.cuda.set_device(started.local_rank)
    return torch.device("cuda", started.local_rank)


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed for what is asked for next, as the same sizes are in each step.

    glibc hands large blocks back to the system, which clears them anew: 12,000 page faults, a tenth of the time of a
    step of `sprint` with 500 images of 24 pixels on one core of Zen 5 (2026-11-21).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such function, and may not need it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def synchronise(device: torch.device) -> None:
    """Wait until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def memory_explained(explanation: MachineError) -> Iterator[None]:
    """Turn PyTorch's ways of saying that memory ran out into one.

    Raises:
        MachineError: `explanation`, if memory ran out inside the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise explanation from error
    except RuntimeError as error:  # the CPU's allocator has no class of its own
        if "DefaultCPUAllocator" not in str(error) and "could not create a memory" not in str(error):
            raise
        raise explanation from error
