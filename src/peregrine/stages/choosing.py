"""Choose the Candidate that wins within the limits: on validation accuracy, reported with test accuracy."""

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peregrine import catalog, files, host
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate, candidates, default_candidate
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.accuracies import Accuracies
from peregrine.stages.opening import TRAINING
from peregrine.stages.ranking import Entry, Limits, Miss, accuracy_misses, choose, find_objective
from peregrine.stages.target import Target


def best(
    target: str | Path | RunDirectory,
    *,
    objective: str = "throughput",
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    max_size_mb: float | None = None,
    data: str | Path | Splits | None = None,
) -> dict[str, Any]:
    """The Candidate of a run that wins within the limits, among those that were measured and passed parity.

    Accuracy limits are judged on the validation split. Where the recipe held nothing out they are judged on test, and
    a warning says so. Where no difference was measured between two Candidates, the more precise one wins, then the one
    that needs fewer libraries.

    Args:
        objective: `throughput` (highest), `latency` (lowest median of one image) or `size` (smallest).
        max_latency_ms: median latency of one image.
        min_accuracy: share of the images, 0 to 1.
        max_accuracy_drop: percentage points that it may lose against the trained model.
        max_size_mb: of the model's files, in 10⁶ bytes.
        data: where the run's data is, when the run cannot tell, for example because it was trained on arrays.

    Returns:
        The content of `results/best.json`, which is written: `candidate` (its key), `artifact` (its folder, relative to
        the run) and `artifact_id`, `runtime`, `precision`, `threads`, `validation_accuracy` (None where nothing was
        held out), `test_accuracy` and its 95% `test_accuracy_interval`, `throughput_per_s`, `latency_ms_p50`,
        `size_bytes`, `why`, `runners_up` (each with what it `misses`) and `warnings`.

    Raises:
        UsageError: no run, a limit that makes no sense, or the run was not benchmarked.
        CheckFailed: nothing is within the limits; the message names the nearest and by how much it misses. Or the
            validation or test images are not those of the run.
    """
    result = attempt(
        target,
        objective=objective,
        max_latency_ms=max_latency_ms,
        min_accuracy=min_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        max_size_mb=max_size_mb,
        data=data,
    )
    refuse(result)
    return result


def attempt(
    target: str | Path | RunDirectory,
    *,
    objective: str = "throughput",
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    max_size_mb: float | None = None,
    data: str | Path | Splits | None = None,
) -> dict[str, Any]:
    """`best` without an error where nothing is within the limits: so that what each misses can be told first."""
    find_objective(objective)
    limits = Limits(max_latency_ms, min_accuracy, max_accuracy_drop, max_size_mb)
    found = Target.find(target)
    if found.run is None or not found.whole_run:
        where = f"; name {found.run.path}" if found.run else ""
        raise UsageError(f"best chooses among all candidates of a run; {found.artifact.path} is one artifact{where}")
    read_benchmark(found.run)  # before anything takes time
    splits = found.own_splits(data)
    found.require(splits, "test", *(["validation"] if found.held_out else []))
    with found.run.lock(), found.run.verb("best"):
        return choose_best(found, splits, objective, limits)


def refuse(result: dict[str, Any]) -> None:
    """Raise where nothing was within the limits.

    Raises:
        CheckFailed: names the nearest miss.
    """
    if result["candidate"] is None:
        raise CheckFailed(f"nothing is within the limits; {result['why']}")


def choose_best(
    target: Target, splits: Splits, objective: str = "throughput", limits: Limits | None = None
) -> dict[str, Any]:
    """`attempt` with the data at hand and the run locked."""
    run, limits = target.run, limits or Limits()
    assert run is not None
    benchmark = read_benchmark(run)
    split = "validation" if target.held_out else "test"
    contenders = {
        candidate.key: (candidate, artifact) for artifact in run.artifacts() for candidate in candidates(artifact)
    }
    entries = [_entry(candidate, artifact, target.artifact, benchmark) for candidate, artifact in contenders.values()]
    with ExitStack() as stack:
        accuracies = Accuracies(run, splits, stack)

        def accuracy(key: str, split: str) -> dict[str, Any]:
            return accuracies.of(*contenders[key], split)

        def judge(entry: Entry) -> list[Miss]:
            if not limits.on_accuracy:
                return []
            trained = accuracy(default_candidate(target.artifact).key, split)["accuracy"]
            return accuracy_misses(limits, split, accuracy(entry.key, split)["accuracy"], trained)

        choice = choose(entries, find_objective(objective), limits, judge, benchmark)
        if choice.winner:
            who = _winner(run, *contenders[choice.winner.key], choice.winner, accuracy, target.held_out)
        else:
            who = {"candidate": None, "nearest": choice.nearest.key if choice.nearest else None}
        result = {
            "schema": 1,
            "objective": objective,
            "limits": asdict(limits),
            "judged_on": split,
            **who,
            "why": choice.why,
            "runners_up": [
                {"candidate": entry.key, "misses": misses, **_figures(entry), **accuracies.known(entry.key, split)}
                for entry, misses in choice.others
            ],
            "warnings": [*_warnings(run, limits, target.held_out, benchmark), *accuracies.problems],
        }
    if choice.winner:
        files.write_json(run.results / "best.json", result)
    return result


def read_benchmark(run: RunDirectory) -> dict[str, Any]:
    """`results/benchmark.json`.

    Raises:
        UsageError: the run was not benchmarked.
        DamagedFile: it is something else.
    """
    path = run.results / "benchmark.json"
    again = f"run: peregrine benchmark {shlex.quote(str(run.path))}"
    if not path.is_file():
        raise UsageError(f"best chooses by what was measured; {path} is missing; {again}")
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("schema") != 1 or not isinstance(content.get("rows"), list):
        raise DamagedFile(f"{path} is not a benchmark of schema 1; {again}")
    return content


def _entry(candidate: Candidate, artifact: Artifact, ancestor: Artifact, benchmark: dict[str, Any]) -> Entry:
    row = next((row for row in benchmark["rows"] if row["candidate"] == candidate.key), None)
    extra = catalog.find("runtime", candidate.runtime).extra
    refused = _unproved(candidate, artifact, ancestor) or _unmeasured(candidate, artifact, row, benchmark)
    return Entry(candidate.key, candidate.precision, 0 if not extra else 2 if extra in TRAINING else 1, row, refused)


def _unproved(candidate: Candidate, artifact: Artifact, ancestor: Artifact) -> str:
    """Why a Candidate may not be used; empty where it passed parity, or is the trained model itself."""
    if artifact.root_id != ancestor.id:
        return "exported from an earlier model; run `peregrine export` again"
    if artifact.id == ancestor.id and candidate.key == default_candidate(ancestor).key:
        return ""
    proof = artifact.evidence().get("parity", {}).get(candidate.key)
    if proof is None:
        return "not proved on this machine; see `peregrine export`"
    if proof["verdict"] == "passed":
        return ""
    reasons = f": {'; '.join(proof['reasons'])}" if proof.get("reasons") else ""
    return f"parity {'failed' if proof['verdict'] == 'failed' else 'is inconclusive'}{reasons}"


def _unmeasured(candidate: Candidate, artifact: Artifact, row: Any, benchmark: dict[str, Any]) -> str:
    if row is None:
        skipped = {entry["candidate"]: entry["reason"] for entry in benchmark.get("skipped", [])}
        reason = f": {skipped[candidate.key]}" if candidate.key in skipped else "; run `peregrine benchmark` again"
        return f"not measured{reason}"
    measured = row.get("artifact_id", artifact.id), row["size_bytes"]  # the first benchmarks did not write down the id
    if measured != (artifact.id, artifact.size_bytes):
        return "exported again after it was measured; run `peregrine benchmark` again"
    return ""


def _winner(
    run: RunDirectory,
    candidate: Candidate,
    artifact: Artifact,
    winner: Entry,
    accuracy: Callable[[str, str], dict[str, Any]],
    held_out: bool,
) -> dict[str, Any]:
    """The winner, as best.json tells it."""
    test = accuracy(candidate.key, "test")
    row = winner.row
    assert row is not None, "what was not measured cannot win"
    return {
        "candidate": candidate.key,
        "artifact": artifact.path.relative_to(run.path).as_posix(),
        "artifact_id": artifact.id,
        "runtime": candidate.runtime,
        "precision": candidate.precision,
        "threads": row["threads"],
        "validation_accuracy": accuracy(candidate.key, "validation")["accuracy"] if held_out else None,
        "test_accuracy": test["accuracy"],
        "test_accuracy_interval": test["accuracy_interval"],
        **_figures(winner),
    }


def _figures(entry: Entry) -> dict[str, Any]:
    keys = ("throughput_per_s", "latency_ms_p50", "size_bytes")
    return {"precision": entry.precision, **{key: entry.row[key] if entry.row else None for key in keys}}


def _warnings(run: RunDirectory, limits: Limits, held_out: bool, benchmark: dict[str, Any]) -> list[str]:
    """What makes the choice less sure than it looks."""
    warnings = []
    if limits.on_accuracy and not held_out:
        warnings.append(
            "the recipe held nothing out for validation: the accuracy limits are judged on the test split, and the "
            "test accuracy of the winner is flattered by the choice"
        )
    elif limits.on_accuracy and run.imported:
        warnings.append(
            "the model was imported: it may have been trained on the images that the accuracy limits are judged on"
        )
    there, here = benchmark.get("host", {}), host.describe()
    if any(there.get(key, here[key]) != here[key] for key in ("processor", "threads")):
        warnings.append(
            f"it was measured on another machine ({there.get('processor')}, threads: {there.get('threads')}; here: "
            f"{here['processor']}, {here['threads']}); run `peregrine benchmark` here"
        )
    noise = benchmark.get("noise") or {}
    if noise.get("busy"):
        said = f": {'; '.join(noise['messages'])}" if noise.get("messages") else ""
        warnings.append(f"the machine was busy while it measured{said}")
    return warnings
