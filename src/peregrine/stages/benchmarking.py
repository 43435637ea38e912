"""Measure Candidates side by side: latency at batch 1, throughput at a large batch, seconds for the test split.

Each Candidate runs in a worker of its own; rounds are interleaved, so that a drifting machine hits all alike.
"""

import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files, host, progress
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate, candidates
from peregrine.dataset import Dataset, Splits
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, UsageError
from peregrine.rundir import RunDirectory
from peregrine.runtimes.base import BATCH
from peregrine.stages import plots
from peregrine.stages.exporting import images_file
from peregrine.stages.target import Target
from peregrine.worker import Worker

ROUNDS, ROUND_SECONDS = 5, 0.6  # seconds of each scenario in each round
TIMEOUT_S = 600


def benchmark(
    target: str | Path | Artifact,
    *,
    data: str | Path | Splits | None = None,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Measure every Candidate of a run that was not refused by parity, or those of one Artifact.

    Returns:
        The content of `results/benchmark.json`, which is written when `target` is a whole run: `rows`, one per
        Candidate, with `latency_ms_p50` to `p99` at batch 1, `throughput_per_s` at batch 250, `test_split_seconds`.
    """
    found = Target.find(target)
    test = found.splits(data).test
    if found.run is None:
        raise UsageError(f"a benchmark is logged in a run; {found.artifact.path} is in none")
    artifacts = found.run.artifacts() if found.whole_run else [found.artifact]
    with found.run.lock(), found.run.verb("benchmark"):
        return benchmark_candidates(found.run, artifacts, test, rounds, record=found.whole_run)


def benchmark_candidates(
    run: RunDirectory,
    artifacts: Sequence[Artifact],
    test: Dataset,
    rounds: int = ROUNDS,
    record: bool = True,
    pictures: bool = True,
    seconds: float = ROUND_SECONDS,
) -> dict[str, Any]:
    """`benchmark` with the data at hand and the run locked, with so many `seconds` for each scenario in each round."""
    chosen = [candidate for artifact in artifacts for candidate in _sound_candidates(artifact)]
    with images_file(test.images) as images, ExitStack() as stack:
        workers: dict[Candidate, Worker] = {}
        samples: dict[Candidate, dict[str, Any]] = {}
        with progress.bar("benchmark", total=(rounds + 2) * len(chosen), unit="round") as advance:
            for candidate in chosen:
                process = stack.enter_context(Worker(f"benchmark-{candidate.key}", run.logs))
                try:
                    samples[candidate] = _measure(process, candidate, images, "open", seconds)
                    workers[candidate] = process
                except (MissingDependency, MissingDevice, CheckFailed) as error:
                    samples[candidate] = {"skipped": str(error)}
                advance(note=candidate.key)
            order = list(workers)
            shuffle = random.Random(0)
            for what in [*["round"] * rounds, "split"]:
                shuffle.shuffle(order)
                for candidate in order:
                    for key, values in _measure(workers[candidate], candidate, images, what, seconds).items():
                        samples[candidate].setdefault(key, []).append(values)
                    advance(note=candidate.key)
        rows = [_row(candidate, samples[candidate]) for candidate in workers]
    result = {
        "schema": 1,
        "host": host.describe(),
        "versions": host.versions(),
        "test_images": len(test),
        "throughput_batch": BATCH,
        "rounds": rounds,
        "round_seconds": seconds,
        "warmup_seconds": seconds,
        "rows": rows,
        "skipped": [
            {"candidate": candidate.key, "reason": samples[candidate]["skipped"]}
            for candidate in chosen
            if candidate not in workers
        ],
    }
    if record:
        files.write_json(run.results / "benchmark.json", result)
        if rows and pictures:
            plots.benchmark(rows, run.results / "benchmark.png")
    return result


def _sound_candidates(artifact: Artifact) -> list[Candidate]:
    """Those that parity did not refuse; an ancestor needs no proof."""
    verdicts = artifact.evidence().get("parity", {})
    return [
        candidate
        for candidate in candidates(artifact)
        if verdicts.get(candidate.key, {}).get("verdict", "passed") != "failed"
    ]


def _measure(process: Worker, candidate: Candidate, images: Path, what: str, seconds: float) -> dict[str, Any]:
    arguments = {"candidate": candidate.to_dict(), "images": str(images), "what": what, "seconds": seconds}
    result: dict[str, Any] = process.call("measure", arguments, TIMEOUT_S)
    return result


def _row(candidate: Candidate, samples: dict[str, Any]) -> dict[str, Any]:
    latencies = np.concatenate([np.asarray(values) for values in samples["latency_ns"]]) / 1e6
    batches = np.concatenate([np.asarray(values) for values in samples["batch_ns"]])
    artifact = Artifact.open(candidate.artifact)
    percentiles = {f"latency_ms_p{p}": float(np.percentile(latencies, p)) for p in (50, 90, 95, 99)}
    return {
        "candidate": candidate.key,
        "format": candidate.format,
        "runtime": candidate.runtime,
        "provider": samples["provider"],
        "precision": candidate.precision,
        "threads": candidate.threads,
        **percentiles,
        "latency_samples": len(latencies),
        "batch_size": samples["batch_size"],
        "throughput_per_s": samples["batch_size"] / (float(np.median(batches)) / 1e9),
        "throughput_per_s_rounds": [
            samples["batch_size"] / (statistics.median(values) / 1e9) for values in samples["batch_ns"]
        ],
        "test_split_seconds": statistics.median(samples["split_ns"][0]) / 1e9,
        "load_seconds": samples["load_seconds"],
        "size_bytes": artifact.size_bytes,
    }
