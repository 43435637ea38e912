"""The worker's side of a benchmark: one Candidate, opened once, measured step by step as its parent asks."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import catalog, host
from peregrine.artifact import Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images, at_once
from peregrine.errors import CheckFailed
from peregrine.parity import LIMITS
from peregrine.runtimes.base import BATCH
from peregrine.stages.decoding import encoded
from peregrine.stages.drivers.base import Driver, Timed, repeat

POOL = 1024  # images that the timed calls are about; MLPerf's number for image classification
STEADY = 0.03  # a median is stable when the next one differs by less
PARTS = 6  # of the time for warming up at most; of each the median is taken
UNLIKELY_GAP = 0.02  # between two probabilities; what is nearer may fall the other way in a batch of another size


class Session:
    """An opened Candidate.

    Args:
        candidate: `Candidate.to_dict()`.
        images: path of uint8 `(N, H, W, 3)`.
        driver: key of the catalogue's drivers.
        logs: folder for what the driver writes.
    """

    def __init__(self, candidate: dict[str, Any], images: str, driver: str, logs: str) -> None:
        self._candidate = Candidate.from_dict(candidate)
        self._images: Images = np.load(images, mmap_mode="r")
        start = time.perf_counter()
        self._runtime = self._candidate.open()
        self.load_seconds = time.perf_counter() - start
        self._runtime.predict(self._images[:1])
        self._driver_key, self._logs = driver, Path(logs)

    def prepare(self, seconds: float) -> dict[str, Any]:
        """Check the golden answers, and warm up, for at most so many seconds, until the medians are stable."""
        self._driver: Driver = catalog.load("driver", self._driver_key)(self._logs)
        self._runtime.verify()
        once, most = self._runtime.batch_size, at_once(BATCH, self._images.shape[1])
        self._batch = min(once * max(1, most // once), len(self._images))
        self._pool = np.ascontiguousarray(self._images[: self._batch])
        start = time.perf_counter()
        medians, steady = zip(*(self._warm_up(size, seconds / 2) for size in (1, self._batch)), strict=True)
        warmup_seconds = time.perf_counter() - start
        memory = peak_memory_bytes()  # before the test images come in
        self._pool = np.ascontiguousarray(self._images[:POOL])
        self._check_provider()
        return {
            "provider": self._runtime.provider,
            "threads": self._runtime.threads,
            "batch_size": self._batch,
            "warmup_seconds": warmup_seconds,
            "steady": all(steady),
            "expected_ns": dict(zip(("single-stream", "offline"), medians, strict=True)),
            "peak_memory_bytes": memory,
        }

    def _warm_up(self, size: int, seconds: float) -> tuple[float, bool]:
        """The last median, in nanoseconds, and whether it had become stable."""
        end, before = time.perf_counter() + seconds, 0.0
        while True:
            timed = repeat(self._runtime.predict, self._pool, size, seconds / PARTS, least=3)
            median = statistics.median(timed.nanoseconds)
            if abs(median - before) < STEADY * median:
                return median, True
            if time.perf_counter() >= end:
                return median, False
            before = median

    def ask_all(self, output: str, seconds: float) -> dict[str, Any]:
        """Every test image once, driven and written down by the driver; then again, for the time, while it lasts.

        Args:
            output: path of the .npz to write: `probabilities` `(N, C)`.
        """
        self._answers, nanoseconds = self._driver.ask_all(self._runtime.predict, self._images, self._batch)
        np.savez(output, probabilities=self._answers)
        passes = [nanoseconds]
        while sum(passes) < seconds * 1e9:
            start = time.perf_counter_ns()
            self._runtime.predict(self._images)
            passes.append(time.perf_counter_ns() - start)
        return {"split_ns": passes}

    def round(self, scenario: str, seconds: float, expected_ns: float) -> dict[str, Any]:
        """One scenario for so many seconds: its times, and how many of the timed answers are those of `ask_all`."""
        predict = self._runtime.predict
        busy, start = time.process_time(), time.perf_counter()
        if scenario == "single-stream":
            timed = self._driver.single_stream(predict, self._pool, seconds, expected_ns)
        else:
            timed = self._driver.offline(predict, self._pool, self._batch, seconds, expected_ns)
        cores = (time.process_time() - busy) / (time.perf_counter() - start)
        return {"nanoseconds": timed.nanoseconds, "cores": cores, **self._compared(timed)}

    def _compared(self, timed: Timed) -> dict[str, int]:
        """A runtime that is fast because it does not look at the image would be caught here."""
        given = np.concatenate(timed.answers).argmax(1)
        expected: Probabilities = self._answers[np.concatenate(timed.places)]
        rows = np.arange(len(given))
        gap = expected.max(1) - expected[rows, given]
        allowed = 2 * (LIMITS[self._candidate.precision].difference or UNLIKELY_GAP)
        return {"answers": len(given), "same_answers": int((gap <= allowed).sum())}

    def server(self, per_s: float, seconds: float) -> dict[str, Any]:
        """Queries at random times, `per_s` on average; LoadGen alone can do that."""
        loadgen = catalog.load("driver", "loadgen")(self._logs)
        found: dict[str, Any] = loadgen.server(self._runtime.predict, self._pool, self._batch, per_s, seconds)
        return found

    def from_bytes(self, folder: str, seconds: float) -> dict[str, Any]:
        """Images per second from encoded files in memory: decoded and resized on all cores, then predicted."""
        sources = encoded(Path(folder))
        preprocess, samples = self._runtime.preprocess, list[float]()
        with ThreadPoolExecutor(host.threads()) as pool:
            while sum(samples) < seconds or len(samples) < 2:
                start = time.perf_counter()
                self._runtime.predict(np.stack(list(pool.map(preprocess, sources))))
                samples.append(time.perf_counter() - start)
        return {"images_per_s": len(sources) / statistics.median(samples)}

    def sweep(self, sizes: list[int], seconds: float) -> list[dict[str, Any]]:
        """Batches of several sizes, up to what the library sees at once, after a fifth of the time for warming up."""
        rows = []
        for size in sorted({min(size, self._runtime.batch_size) for size in sizes}):
            repeat(self._runtime.predict, self._pool, size, seconds / 5, least=2)
            timed = repeat(self._runtime.predict, self._pool, size, seconds, least=3)
            median = statistics.median(timed.nanoseconds)
            rows.append({
                "threads": self._runtime.threads,
                "batch_size": size,
                "throughput_per_s": size / (median / 1e9),
                "latency_ms_p50": median / 1e6,
            })  # fmt: skip
        return rows

    def finish(self) -> dict[str, Any]:
        """After the last round: the provider must still be the one that was asked for."""
        self._check_provider()
        return {}

    def _check_provider(self) -> None:
        if self._runtime.provider != self._candidate.provider:
            raise CheckFailed(
                f"{self._candidate.key} was asked to run on {self._candidate.provider}, and fell back to "
                f"{self._runtime.provider} without a word; check the driver with `peregrine doctor`"
            )


STEPS: dict[str, Callable[..., Any]] = {
    "prepare": Session.prepare,
    "ask-all": Session.ask_all,
    "round": Session.round,
    "server": Session.server,
    "from-bytes": Session.from_bytes,
    "sweep": Session.sweep,
    "finish": Session.finish,
}
_session: Session | None = None


def measure_task(what: str, **arguments: Any) -> Any:
    """Worker task: `open`, which ends with the first answer, then the `STEPS` of what is open.

    Times are of `Runtime.predict`, from uint8 in host memory to float32 in host memory, so copies to and from a device
    are inside.
    """
    global _session
    if what == "open":
        _session = Session(**arguments)
        return {"load_seconds": _session.load_seconds}
    if _session is None:
        raise CheckFailed("measure: a candidate is opened before it is measured")
    return STEPS[what](_session, **arguments)


def peak_memory_bytes() -> int:
    """The most memory that this process has had, with all that its libraries took.

    Not by `getrusage`, whose figure a new process inherits from the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
