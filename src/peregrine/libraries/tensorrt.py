"""TensorRT as it is installed: NVIDIA's package `tensorrt`, else `tensorrt_rtx`, which has the same interface.

Everything of ours takes it from here: `from peregrine.libraries.tensorrt import trt`. Where both are installed,
`tensorrt` is taken on a machine with a GPU; without one it can do nothing, and TensorRT-RTX still builds.
"""

from typing import Any

from peregrine.errors import MissingDevice
from peregrine.host import Gpu, find_gpu


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
