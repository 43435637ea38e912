"""The device that PyTorch works on: which, how, and what it says when its memory runs out."""

import contextlib
from collections.abc import Iterator

import torch

from peregrine import host
from peregrine.errors import MachineError


def pick() -> torch.device:
    """CUDA where there is one, else the CPU with the threads that `host` allows."""
    torch.set_num_threads(host.threads())
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; who wants speed takes bf16
    return torch.device("cuda")


def synchronise(device: torch.device) -> None:
    """Wait until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def memory_explained(batch_size: int) -> Iterator[None]:
    """Turn PyTorch's ways of saying that memory ran out into one that names the batch size.

    Raises:
        MachineError: memory ran out inside the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(batch_size) from error
    except RuntimeError as error:  # the CPU's allocator has no class of its own
        if "DefaultCPUAllocator" not in str(error) and "could not create a memory" not in str(error):
            raise
        raise _out_of_memory(batch_size) from error


def _out_of_memory(batch_size: int) -> MachineError:
    return MachineError(
        f"memory ran out with batch_size={batch_size}; use a smaller one, --set batch_size={max(1, batch_size // 2)}"
    )
