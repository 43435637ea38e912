"""Where tests compute arrays: whatever is written for `arrays.Place` gives the same at all of these."""

import array_api_compat.numpy
import numpy as np
import pytest

import stand_ins
from peregrine import arrays, device, host
from peregrine.arrays import Place
from peregrine.catalog import CATALOG, Entry

# Few pixels at once, so that small images come in several pieces.
_PLACES = {
    "numpy": arrays.CPU,
    "compat": Place("cpu", array_api_compat.numpy, np.asarray, np.asarray, pixels=100),
    "strict": Place("cuda", stand_ins.xp, stand_ins.bring, stand_ins.fetch, pixels=100),
}
PLACES = [*_PLACES, pytest.param("cupy", marks=pytest.mark.gpu)]


def at(name: str) -> Place:
    """A place by its name; skips the test where it needs a GPU."""
    if name == "cupy":
        need_gpu("cupy")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(device.VARIABLE, "cuda")
            return arrays.choose("statistics", 1)
    return _PLACES[name]


def need_gpu(library: str) -> None:
    """Skip without a GPU, or without what computes on it."""
    if not host.find_gpu():
        pytest.skip("needs an NVIDIA GPU")
    pytest.importorskip(library, reason="needs the extra rapids")


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, module: str = "stand_ins", setting: str = "cuda") -> None:
    """Let the product find a GPU, and a library that computes on it."""
    for kind in device.KINDS:
        monkeypatch.setitem(CATALOG[kind], "cuda", Entry(module, "rapids"))
    monkeypatch.setattr(host, "find_gpu", lambda: host.Gpu("Pretended", "9.0"))
    monkeypatch.setenv(device.VARIABLE, setting)
    device._find.cache_clear()
    device._warn.cache_clear()
