"""TensorRT as it is installed: NVIDIA's package `tensorrt`, else `tensorrt_rtx`, which has the same interface.

Everything of ours takes it from here: `from peregrine.libraries.tensorrt import trt`. Where both are installed,
`tensorrt` is taken on a machine with a GPU; without one it can do nothing, and TensorRT-RTX still builds.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peregrine.errors import MissingDevice

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*; Source: cuda.h


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: its name, and its compute capability, such as `8.9`."""

    name: str
    capability: str


def find_gpu() -> Gpu | None:
    """The first GPU, asked of NVIDIA's driver itself, which needs no library; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    if any(call() for call in calls):  # each gives 0, or why not
        return None
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def _choose() -> Any:
    try:
        import tensorrt
    except ModuleNotFoundError:
        import tensorrt_rtx

        return tensorrt_rtx
    if find_gpu() is None:
        try:
            import tensorrt_rtx
        except ModuleNotFoundError:
            return tensorrt
        return tensorrt_rtx
    return tensorrt


trt: Any = _choose()


def name() -> str:
    """Which package it is, `tensorrt` or `tensorrt_rtx`: neither loads the other's plans."""
    return str(trt.__name__)


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps what TensorRT complains about; by itself it would print everything."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(" ".join(message.split()))

    def reason(self) -> str:
        """The first complaint, which the others follow from."""
        return self.errors[0] if self.errors else "it does not say why"


def need_gpu(what: str) -> Gpu:
    """The GPU.

    Args:
        what: the beginning of the sentence about what needs it, such as `tensorrt@tensorrt runs`.

    Raises:
        MissingDevice: there is none.
    """
    gpu = find_gpu()
    if gpu is None:
        raise MissingDevice(
            f"{what} on an NVIDIA GPU; its driver (libcuda) finds none here; take this to a machine with one"
        )
    return gpu
