"""The worker's side of a benchmark: one Candidate, opened once, measured round by round."""

import time
from typing import Any

import numpy as np

from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed
from peregrine.runtimes.base import BATCH, Runtime

_open_runtimes: dict[str, tuple[Runtime, Images]] = {}


def measure_task(candidate: dict[str, Any], images: str, what: str, seconds: float) -> dict[str, Any]:
    """Worker task: `open` loads, checks and warms up; a `round` measures latency and throughput; `split` all images.

    The Runtime stays open between calls. Times are of `Runtime.predict`, from uint8 in host memory to float32 in host
    memory, so copies to and from a device are inside.

    Args:
        candidate: `Candidate.to_dict()`.
        images: path of uint8 `(N, H, W, 3)`.
        what: `open`, `round` or `split`.
        seconds: that each scenario of a round takes, and warming up for it.
    """
    if what == "open":
        start = time.perf_counter()
        runtime = Candidate.from_dict(candidate).open()
        load_seconds = time.perf_counter() - start
        runtime.verify()
        pixels = np.ascontiguousarray(np.load(images))
        _open_runtimes[images] = runtime, pixels
        for batch in (pixels[:1], pixels[:BATCH]):
            _repeat(runtime, batch, seconds)
        return {"load_seconds": load_seconds, "provider": runtime.provider, "batch_size": len(pixels[:BATCH])}
    if images not in _open_runtimes:
        raise CheckFailed("measure: a round needs an opened candidate")
    runtime, pixels = _open_runtimes[images]
    if what == "split":
        return {"split_ns": _repeat(runtime, pixels, seconds, least=1)}
    return {
        "latency_ns": _repeat(runtime, pixels[:1], seconds),
        "batch_ns": _repeat(runtime, pixels[:BATCH], seconds),
    }


def _repeat(runtime: Runtime, batch: Images, seconds: float, least: int = 3) -> list[int]:
    """Nanoseconds of each `predict` of the same batch, for about this many seconds and at least `least` times."""
    samples: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while len(samples) < least or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        runtime.predict(batch)
        samples.append(time.perf_counter_ns() - start)
    return samples
