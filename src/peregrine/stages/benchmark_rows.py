"""What was measured of a Candidate, as a row of benchmark.json, and all of its times as Parquet."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from peregrine import files
from peregrine.artifact import Artifact
from peregrine.stages import ratios
from peregrine.stages.rounds import Entry, Measured

Rounds = Sequence[Sequence[int]]  # nanoseconds of each call of each round


def row(entry: Entry, found: Measured, driver: str) -> dict[str, Any]:
    """One row; what belongs to a scenario is there if that was measured."""
    candidate, opened = entry.candidate, found.opened
    artifact = Artifact.open(candidate.artifact)
    told: dict[str, Any] = {
        "candidate": entry.key,
        "artifact": str(candidate.artifact),
        "artifact_id": artifact.id,
        "format": candidate.format,
        "runtime": candidate.runtime,
        "provider": opened["provider"],
        "precision": candidate.precision,
        "threads": opened["threads"],
        "driver": driver,
        "batch_size": opened["batch_size"],
    }
    if "single-stream" in found.nanoseconds:
        told |= _latency(found.nanoseconds["single-stream"])
    if "offline" in found.nanoseconds:
        told |= _throughput(found.nanoseconds["offline"], opened["batch_size"])
        told["cores_used"] = statistics.median(found.cores)
    agreed = found.agreement is not None
    return told | {
        "test_split_seconds": statistics.median(found.split_ns) / 1e9,
        "images_per_s_from_bytes": found.images_per_s_from_bytes,
        "load_seconds": opened["load_seconds"],
        "cold_start_seconds": opened["cold_start_seconds"],
        "warmup_seconds": opened["warmup_seconds"],
        "steady": opened["steady"],
        "peak_memory_bytes": opened["peak_memory_bytes"],
        "size_bytes": artifact.size_bytes,
        "accuracy": found.accuracy,
        "accuracy_mode": _accuracy_mode(len(entry.labels), found) if agreed else None,
        "server": found.server,
    }


def _latency(rounds: Rounds) -> dict[str, Any]:
    """The median over the rounds' medians, with its interval; the tail over all calls, of which a round has few."""
    milliseconds = np.concatenate([np.asarray(values) for values in rounds]) / 1e6
    medians = [statistics.median(values) / 1e6 for values in rounds]
    return {
        "latency_ms_p50": statistics.median(medians),
        **{f"latency_ms_p{p}": float(np.percentile(milliseconds, p)) for p in (90, 95, 99)},
        "latency_samples": len(milliseconds),
        "latency_ms_p50_rounds": medians,
        "latency_ms_p50_interval": list(ratios.interval(medians)),
    }


def _throughput(rounds: Rounds, batch: int) -> dict[str, Any]:
    per_s = [batch / (statistics.median(values) / 1e9) for values in rounds]
    return {
        "throughput_per_s": statistics.median(per_s),
        "throughput_per_s_rounds": per_s,
        "throughput_per_s_interval": list(ratios.interval(per_s)),
        "throughput_spread": ratios.spread(per_s),
    }


def _accuracy_mode(images: int, found: Measured) -> dict[str, Any]:
    timed = found.same_answers / found.answers if found.answers else None
    return {
        "images": images,
        "agreement": found.agreement,
        "timed_answers": found.answers,
        "timed_agreement": timed,
    }


def write_samples(times: Mapping[str, Mapping[str, Rounds]], path: Path) -> None:
    """Every timed call as a row: `candidate`, `scenario`, `round` from 0, `nanoseconds`.

    Args:
        times: by Candidate and scenario.
    """
    rounds = [
        (candidate, scenario, number, np.asarray(values, np.int64))
        for candidate, scenarios in times.items()
        for scenario, each in scenarios.items()
        for number, values in enumerate(each)
    ]
    lengths = [len(values) for *_, values in rounds]

    def column(place: int, kind: Any) -> Any:
        return pa.array(np.repeat(np.array([each[place] for each in rounds], object), lengths), kind)

    nanoseconds = np.concatenate([values for *_, values in rounds]) if rounds else np.empty(0, np.int64)
    table = pa.table({
        "candidate": column(0, pa.string()),
        "scenario": column(1, pa.string()),
        "round": column(2, pa.int32()),
        "nanoseconds": pa.array(nanoseconds),
    })  # fmt: skip
    with files.writing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")
