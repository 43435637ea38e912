"""The worker's side of a benchmark: one Candidate, opened once, measured round by round."""

import time
from typing import Any

import numpy as np

from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed
from peregrine.runtimes.base import BATCH, Runtime

ROUND_SECONDS = 0.6  # of each scenario in each round
WARMUP_SECONDS = 0.5

_open_runtimes: dict[str, tuple[Runtime, Images]] = {}


def measure_task(candidate: dict[str, Any], images: str, what: str) -> dict[str, Any]:
    """Worker task: `open` loads, checks and warms up; each `round` measures all scenarios once.

    The Runtime stays open between calls. Times are of `Runtime.predict`, from uint8 in host memory to float32 in host
    memory, so copies to and from a device are inside.
    """
    if what == "open":
        start = time.perf_counter()
        runtime = Candidate.from_dict(candidate).open()
        load_seconds = time.perf_counter() - start
        runtime.verify()
        pixels = np.ascontiguousarray(np.load(images))
        _open_runtimes[images] = runtime, pixels
        for batch in (pixels[:1], pixels[:BATCH]):
            _repeat(runtime, batch, WARMUP_SECONDS)
        return {"load_seconds": load_seconds, "provider": runtime.provider, "batch_size": len(pixels[:BATCH])}
    if images not in _open_runtimes:
        raise CheckFailed("measure: a round needs an opened candidate")
    runtime, pixels = _open_runtimes[images]
    latency = _repeat(runtime, pixels[:1], ROUND_SECONDS)
    batches = _repeat(runtime, pixels[:BATCH], ROUND_SECONDS)
    start = time.perf_counter()
    runtime.predict(pixels)
    return {"latency_ns": latency, "batch_ns": batches, "test_split_seconds": time.perf_counter() - start}


def _repeat(runtime: Runtime, batch: Images, seconds: float) -> list[int]:
    """Nanoseconds of each `predict` of the same batch, for about this many seconds and at least three times."""
    samples: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while len(samples) < 3 or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        runtime.predict(batch)
        samples.append(time.perf_counter_ns() - start)
    return samples
