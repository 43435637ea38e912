"""Measure Candidates side by side: latency, throughput, queries, start, memory, and what the differences are worth.

Each Candidate runs in a worker of its own; rounds are interleaved in random order, so that a drifting machine hits all
alike. `ratios.py` says what the rounds tell, `noise.py` whether the machine was quiet.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import catalog, errors, files, host, progress
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate, candidates
from peregrine.dataset import Dataset, Splits
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, UsageError, machine_error, suggestion
from peregrine.rundir import RunDirectory
from peregrine.stages import plots, ratios
from peregrine.stages.benchmark_rows import row, write_samples
from peregrine.stages.decoding import decoding, encode
from peregrine.stages.evaluating import ancestor_answers
from peregrine.stages.exporting import images_file
from peregrine.stages.noise import Watch
from peregrine.stages.rounds import Bench, Entry, Measured, Plan
from peregrine.stages.target import Target

SCENARIOS = ("single-stream", "offline", "server")
QUICK = SCENARIOS[:2]  # what every benchmark.json has
BASELINE = "onnx@onnxruntime"  # fp32, what people compare with

logger = logging.getLogger("peregrine")
Targets = str | Path | Artifact | Sequence[str | Path | Artifact]


def benchmark(
    targets: Targets,
    *,
    data: str | Path | Splits | None = None,
    scenarios: Sequence[str] | None = None,
    baseline: str | None = None,
    rounds: int | None = None,
    quick: bool = False,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measure every Candidate that was not refused by parity: of a run, of an Artifact, or of several, side by side.

    Args:
        targets: a run, or Artifacts; several of them may be of several runs, on the same test images.
        data: measure on this data's test images instead of the run's own; where it has no splits, on all of it.
        scenarios: of `single-stream`, `offline` and `server`, and no sweep; all, with a sweep, unless told.
        baseline: key of the Candidate that all are compared with; ONNX Runtime in fp32 unless told.
        rounds: how often `single-stream` and `offline` are measured.
        quick: seconds per Candidate: `single-stream` and `offline` in short rounds, no sweep.
        out: folder for `benchmark.json`, pictures and samples, instead of the run's `results`.

    Returns:
        The content of `benchmark.json`, which docs/benchmark.md explains key by key. It is written for a whole run,
        unless scenarios are left out that every benchmark.json has or the test images are not the run's, or where `out`
        says.

    Raises:
        UsageError: an unknown scenario or baseline, test images that differ, or `out` is a run's `results`, for which
            this is no benchmark.
        MissingDependency: a scenario was asked for by name, and LoadGen is not installed.
        CheckFailed: a Candidate crashed, fell back to another device, or answered otherwise than it was proved to; all
            others were measured, and what was found is written.
    """
    result = attempt(targets, data=data, scenarios=scenarios, baseline=baseline, rounds=rounds, quick=quick, out=out)
    refuse(result)
    return result


def attempt(
    targets: Targets,
    *,
    data: str | Path | Splits | None = None,
    scenarios: Sequence[str] | None = None,
    baseline: str | None = None,
    rounds: int | None = None,
    quick: bool = False,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """`benchmark` without an error for a Candidate that failed: so that the others can be told first."""
    plan = make_plan(scenarios, rounds, quick)
    given = [targets] if isinstance(targets, str | Path | Artifact) else list(targets)
    if not given:
        raise UsageError("a benchmark takes a run, or artifacts; got none")
    found = [Target.find(target) for target in given]
    runs: dict[Path, RunDirectory] = {}
    for target in found:
        if target.run is None:
            raise UsageError(f"a benchmark is logged in a run; {target.artifact.path} is in none")
        runs[target.run.path.resolve()] = target.run
    subjects = _subjects(found, data)
    keys = [key for subject in subjects for key in subject.candidate_keys()]
    if baseline is not None and baseline not in keys:
        raise UsageError(
            f"the baseline is one of the candidates that are measured: {', '.join(keys)}; "
            f"got {baseline!r}{suggestion(baseline, keys)}"
        )
    folder = Path(out) if out is not None else None
    if folder is None or _is_of_a_run(folder):
        whole = len(given) == 1 and found[0].whole_run and set(QUICK) <= set(plan.scenarios)
        own = _own_results(found[0], subjects[0].test) if whole else None
        if folder is not None and (own is None or folder.resolve() != own.resolve()):
            raise UsageError(
                "the results of a run have the whole benchmark of that run, on its own test images; this one is "
                f"another and would take its place in {folder}; choose another --out"
            )
        folder = own
    if folder is not None:
        _make_ready(folder)
    with ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(run.lock())
            stack.enter_context(run.verb("benchmark"))
        return _measure(subjects, plan, baseline, folder, pictures=True, quick=quick)


def benchmark_run(target: Target, test: Dataset, source: str, *, quick: bool, pictures: bool = True) -> dict[str, Any]:
    """`attempt` for a whole run with the data at hand and the run locked; `source` is where the data comes from."""
    run = target.run
    assert run is not None
    subject = Subject(target, tuple(run.artifacts()), test, source, "")
    plan = make_plan(None, None, quick)
    return _measure([subject], plan, None, run.results, pictures=pictures, quick=quick)


def refuse(result: dict[str, Any]) -> None:
    """Raise for the first Candidate that failed a check; one whose library or device is missing is no failure.

    Raises:
        CheckFailed: of the class and with the words that the worker used.
    """
    for entry in result["skipped"]:
        kind = getattr(errors, entry["error"])
        if issubclass(kind, CheckFailed):
            raise kind(entry["reason"])


def make_plan(scenarios: Sequence[str] | None, rounds: int | None, quick: bool) -> Plan:
    """What is measured, and by which driver.

    Raises:
        UsageError: an unknown scenario, none at all, or less than one round.
        MissingDependency: a scenario was named, and LoadGen is not installed.
    """
    for name in scenarios or ():
        if name not in SCENARIOS:
            raise UsageError(f"a scenario is one of {', '.join(SCENARIOS)}; got {name!r}{suggestion(name, SCENARIOS)}")
    if rounds is not None and rounds < 1:
        raise UsageError(f"a benchmark has 1 round or more; got {rounds}")
    driver = "loadgen"
    try:
        catalog.load("driver", driver)
    except MissingDependency:
        if scenarios:
            raise
        driver = "plain"
    everything = QUICK if quick or driver == "plain" else SCENARIOS
    chosen = tuple(name for name in SCENARIOS if name in (scenarios or everything))
    if quick:
        return Plan(
            scenarios=chosen,
            rounds=rounds or 5,
            seconds=0.12,
            warmup_seconds=0.6,
            starts=1,
            server_seconds=1.0,
            sweep_seconds=0.0,
            driver=driver,
        )
    if driver == "plain":
        logger.info("queries at random times are not measured: LoadGen is missing; pip install 'peregrine[loadgen]'")
    return Plan(
        scenarios=chosen,
        rounds=rounds or 7,
        seconds=0.3,
        warmup_seconds=2.0,
        starts=2,
        server_seconds=1.5,
        sweep_seconds=0.0 if scenarios else 0.15,
        driver=driver,
    )


@dataclass(frozen=True)
class Subject:
    """A run's Artifacts that are measured, on its test images.

    Attributes:
        source: where the images come from, as `--data` says it.
        prefix: in front of its Candidates' keys, where there are several runs.
    """

    target: Target
    artifacts: tuple[Artifact, ...]
    test: Dataset
    source: str
    prefix: str

    def candidates(self) -> Iterator[tuple[Candidate, dict[str, Any]]]:
        """Those that parity did not refuse, with their proofs; an ancestor needs none."""
        for artifact in self.artifacts:
            proofs = artifact.evidence().get("parity", {})
            for candidate in candidates(artifact):
                proof = proofs.get(candidate.key, {})
                if proof.get("verdict") != "failed":
                    yield candidate, proof

    def candidate_keys(self) -> list[str]:
        return [self.prefix + candidate.key for candidate, _ in self.candidates()]


def _is_of_a_run(folder: Path) -> bool:
    """Whether these are a run's results, which other verbs read."""
    run = RunDirectory(folder.resolve().parent)
    return run.results == folder.resolve() and (run.path / "run.json").is_file()


def _own_results(target: Target, test: Dataset) -> Path | None:
    """Where a whole run keeps what is measured; None where the test images are others than the run's."""
    assert target.run is not None
    if target.recorded("test") in (None, test.fingerprint):
        return target.run.results
    logger.info("these are not the run's test images: nothing is recorded, unless --out says where")
    return None


def _subjects(found: Sequence[Target], data: str | Path | Splits | None) -> list[Subject]:
    """One for each run, whose Artifacts come once, however often they were named."""
    by_run: dict[Path, list[Target]] = {}
    for target in found:
        assert target.run is not None
        by_run.setdefault(target.run.path.resolve(), []).append(target)
    names = [path.name for path in by_run]
    subjects: list[Subject] = []
    for path, targets in by_run.items():
        run = targets[0].run
        assert run is not None
        artifacts: dict[Path, Artifact] = {}
        for target in targets:
            for artifact in run.artifacts() if target.whole_run else [target.artifact]:
                artifacts.setdefault(artifact.path.resolve(), artifact)
        splits = targets[0].splits(data)
        prefix = f"{path.name if names.count(path.name) == 1 else path}/" if len(by_run) > 1 else ""
        subjects.append(Subject(targets[0], tuple(artifacts.values()), splits.test, splits.source, prefix))
    for subject in subjects[1:]:
        _refuse_other_images(subjects[0], subject)
    return subjects


def _refuse_other_images(first: Subject, second: Subject) -> None:
    def labelled(test: Dataset) -> Any:
        return np.array(test.class_names)[test.labels]

    if not (
        np.array_equal(first.test.ids, second.test.ids) and np.array_equal(labelled(first.test), labelled(second.test))
    ):
        raise UsageError(
            f"models are compared on the same test images; those of {first.prefix[:-1]} and {second.prefix[:-1]} "
            "differ; give the images with --data"
        )


def _measure(
    subjects: Sequence[Subject],
    plan: Plan,
    baseline: str | None,
    folder: Path | None,
    *,
    pictures: bool,
    quick: bool,
) -> dict[str, Any]:
    """All of it, and what it comes to; written into the folder."""
    watch = Watch()
    with ExitStack() as stack:
        entries = [entry for subject in subjects for entry in _entries(subject, stack)]
        preprocess = decoding(entries[0].encoded, subjects[0].target.artifact.manifest.preprocess) if entries else None
        steps = 3 + plan.rounds * len(plan.in_rounds) + ("server" in plan.scenarios)
        advance = stack.enter_context(progress.bar("benchmark", total=steps * len(entries), unit="step"))
        watch.look()
        bench = stack.enter_context(Bench(plan, watch, advance))
        bench.open(entries)
        bench.rounds()
        against = _baseline(baseline, [entry.key for entry in entries if entry.key in bench.measured])
        if "server" in plan.scenarios and against is not None:
            bench.server(against)
        by_key = {entry.key: entry for entry in entries}
        rows = [row(by_key[key], found, plan.driver) for key, found in bench.measured.items()]
        fronts = ratios.pareto(rows)
        sweep = []
        if plan.sweep_seconds and against is not None:
            chosen = dict.fromkeys([against, *(key for front in fronts.values() for key in front)])
            sweep = bench.sweep(list(chosen), _thread_counts())
    result = {
        "schema": 1,
        "mode": "quick" if quick else "full",
        "host": host.describe(),
        "versions": host.versions(),
        "scenarios": list(plan.scenarios),
        "test_images": len(subjects[0].test),
        "fingerprint": subjects[0].test.fingerprint,
        "rounds": plan.rounds,
        "round_seconds": plan.seconds,
        "warmup_seconds": max((each["warmup_seconds"] for each in rows), default=0.0),
        "baseline": against,
        "noise": watch.report(),
        "preprocess": preprocess,
        "rows": rows,
        "comparisons": ratios.compare_rows(rows, against) if against else [],
        "pareto": fronts,
        "sweep": sweep,
        "skipped": bench.skipped,
    }
    if folder is not None:
        _write(result, bench.measured, folder, pictures)
    return result


def _entries(subject: Subject, stack: ExitStack) -> list[Entry]:
    """What is measured of a run, with its images as files that go with the stack."""
    run, test = subject.target.run, subject.test
    assert run is not None
    images = stack.enter_context(images_file(test.images, run.cache))
    folder = images.with_name("encoded")
    encode(test, subject.source, folder)
    try:
        expected = ancestor_answers(subject.target, test)
    except (MissingDependency, MissingDevice):  # and nobody asked it before
        expected = None
    return [
        Entry(
            key=subject.prefix + candidate.key,
            candidate=candidate,
            images=images,
            encoded=folder,
            labels=test.labels,
            expected=expected,
            proved=proof.get("fingerprint") == test.fingerprint,
            logs=run.logs,
        )
        for candidate, proof in subject.candidates()
    ]


def _baseline(wanted: str | None, keys: Sequence[str]) -> str | None:
    """Of those that could be measured: the one that was asked for, fp32 ONNX Runtime, or else the first."""
    if wanted is not None:
        return wanted if wanted in keys else None
    return next((key for key in keys if key.rpartition("/")[2] == BASELINE), keys[0] if keys else None)


def _thread_counts() -> list[int]:
    """Powers of two, up to all that there are."""
    most = host.threads()
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})


def _make_ready(folder: Path) -> None:
    """Make sure that results can be written, before they are measured.

    Raises:
        UsageError: something else is there.
        MachineError: nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"results are written into a folder; {folder} is none; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise machine_error(error, folder) from error


def _write(result: dict[str, Any], measured: dict[str, Measured], folder: Path, pictures: bool) -> None:
    write_samples({key: found.nanoseconds for key, found in measured.items()}, folder / "benchmark_samples.parquet")
    files.write_json(folder / "benchmark.json", result)
    rows = [each for each in result["rows"] if {"latency_ms_p50", "throughput_per_s"} <= each.keys()]
    if rows and pictures:
        plots.benchmark(rows, folder / "benchmark.png")
        plots.pareto(rows, result["pareto"], folder / "pareto.png")
