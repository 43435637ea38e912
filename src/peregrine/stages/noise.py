"""Whether the machine was quiet while it was measured: what other programs, the hypervisor and its clock did.

Read from `/proc` and `/sys`, as Linux has them; elsewhere the load average is all there is.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import host
from peregrine.stages import wording

LOOK_SECONDS = 0.25  # with all of our own processes waiting; the counters tick 100 times a second
BUSY_CORES = 0.25  # kept busy by others, of those that we need
STOLEN_SHARE = 0.02
CLOCK_CHANGE = 0.15  # of the frequency, between the slowest and the fastest look


@dataclass(frozen=True)
class _Ticks:
    """Processor time since the machine started, of all cores, in seconds."""

    busy: float
    idle: float
    stolen: float


class Watch:
    """Looks around between the measurements.

    Args:
        proc, cpus: where the kernel tells.
    """

    def __init__(self, proc: Path = Path("/proc"), cpus: Path = Path("/sys/devices/system/cpu")) -> None:
        self._proc, self._cpus = proc, cpus
        self._busy: list[float] = []
        self._clocks: list[float] = []
        self._first = self._ticks()

    def look(self, seconds: float = LOOK_SECONDS) -> None:
        """While nothing of ours computes: how many cores others keep busy."""
        before = self._ticks()
        if before is None:
            self._busy.append(os.getloadavg()[0])
            return
        time.sleep(seconds)
        after = self._ticks()
        assert after is not None
        passed = after.busy - before.busy + after.idle - before.idle + after.stolen - before.stolen
        cores = os.cpu_count() or 1
        self._busy.append(cores * (after.busy - before.busy) / passed if passed else 0.0)

    def clock(self) -> None:
        """Right after something was measured: how fast the fastest core runs."""
        paths = sorted(self._cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        speeds = [int(path.read_text("utf-8")) / 1e3 for path in paths]
        if not speeds:
            lines = _lines(self._proc / "cpuinfo")
            speeds = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        if speeds:
            self._clocks.append(max(speeds))

    def report(self) -> dict[str, Any]:
        """What there was to see.

        Returns:
            `busy`, and why in `messages`; `load_before` and `load_after`, the cores that others kept busy at the first
            and at the last look; `steal_share`, of the processor time, what the hypervisor gave to other machines;
            `frequency_mhz`, the slowest and the fastest.
        """
        last = self._ticks()
        steal = None
        if self._first and last:
            ran = last.busy - self._first.busy + last.stolen - self._first.stolen
            steal = (last.stolen - self._first.stolen) / ran if ran > 0 else 0.0
        messages = [*_crowded(self._busy), *_stolen(steal), *_throttled(self._clocks)]
        return {
            "busy": bool(messages),
            "messages": messages,
            "load_before": self._busy[0] if self._busy else 0.0,
            "load_after": self._busy[-1] if self._busy else 0.0,
            "steal_share": steal,
            "frequency_mhz": [min(self._clocks), max(self._clocks)] if self._clocks else None,
        }

    def _ticks(self) -> _Ticks | None:
        """Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are within user."""
        fields = next(iter(_lines(self._proc / "stat")), "").split()
        if len(fields) < 9 or fields[0] != "cpu":
            return None
        user, nice, system, idle, waiting, irq, soft, stolen = (int(field) for field in fields[1:9])
        second = os.sysconf("SC_CLK_TCK")
        return _Ticks((user + nice + system + irq + soft) / second, (idle + waiting) / second, stolen / second)


def _crowded(busy: Sequence[float]) -> list[str]:
    """Others may have what we leave."""
    spare = (os.cpu_count() or 1) - host.threads()
    crowded = [cores for cores in busy if cores > spare + BUSY_CORES]
    if not crowded:
        return []
    return [
        f"other programs kept {max(crowded):.1f} of {os.cpu_count()} cores busy in {len(crowded)} of {len(busy)} looks "
        "between the measurements; end them and measure again"
    ]


def _stolen(share: float | None) -> list[str]:
    if share is None or share <= STOLEN_SHARE:
        return []
    return [f"the hypervisor took {wording.percent(share)} of the processor time away for other machines"]


def _throttled(clocks: Sequence[float]) -> list[str]:
    if not clocks or max(clocks) <= (1 + CLOCK_CHANGE) * min(clocks):
        return []
    return [f"the processor's clock changed between {min(clocks):,.0f} and {max(clocks):,.0f} MHz"]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
