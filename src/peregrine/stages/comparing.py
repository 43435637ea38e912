"""Compare runs or Artifacts on identical images: what one gets right and another wrong, and what each costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import files, metrics, progress, worker
from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset, Splits
from peregrine.errors import DataError, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages import pairing, plots
from peregrine.stages.exporting import images_file
from peregrine.stages.pairing import Answers
from peregrine.stages.target import Target

Source = str | Path | Splits


def compare(
    targets: Sequence[str | Path | Artifact | RunDirectory],
    *,
    data: Source | None = None,
    split: str = "test",
    picture: str | Path | None = None,
) -> dict[str, Any]:
    """Compare two or more models with the first of them, by paired statistics on the same images.

    Args:
        targets: runs (their trained models are compared) or Artifacts.
        data: compare on this data instead of the runs' own; where it has no splits, on all of it.
        split: `test`, `validation` or `train`.
        picture: of two models, draw what changes per class into this PNG.

    Returns:
        `split`, `images`, `data` and `fingerprint` of the images; `models`, one row each: `name`, `candidate`,
        `engine`, `model`, `recipe`, `accuracy` and its 95% `accuracy_interval`, `size_bytes`, `training` (epochs,
        seconds, machine) and `fastest` (of its benchmark), None where unknown; `comparisons`, one for each model after
        the first, see `pairing.compare`; and `warnings`.

    Raises:
        UsageError: fewer than two models, or neither runs nor Artifacts.
        DataError: they do not have the same images, or these have a class that a model does not know.
    """
    if len(targets) < 2:
        raise UsageError(f"compare takes two runs or artifacts, or more; got {len(targets)}")
    if picture is not None and len(targets) != 2:
        raise UsageError(f"--picture shows what changes between two models; got {len(targets)}; leave it out")
    if picture is not None:
        plots.check_name(Path(picture))
    found = [Target.find(target) for target in targets]
    source = data if data is not None else _own_source(found)
    parts = [_part(target, source, split, given=data is not None) for target in found]
    first = parts[0]
    places = [  # checks all of them before any has to answer
        _places(first, part, _name(found[0]), _name(target), split) for target, part in zip(found, parts, strict=True)
    ]
    models: list[dict[str, Any]] = []
    answers: list[Answers] = []
    for target, part, order in zip(found, parts, places, strict=True):
        candidate, probabilities = _ask(target, part)
        said = Answers.of(_name(target), part, probabilities).at(order)
        models.append(_model(target, candidate, said))
        answers.append(said)
    result: dict[str, Any] = {
        "schema": 1,
        "split": split,
        "images": len(first),
        "data": _told(source),
        "fingerprint": first.fingerprint,
        "models": models,
        "comparisons": [pairing.compare(answers[0], other) for other in answers[1:]],
        "warnings": _warnings(models),
    }
    if picture is not None:
        plots.class_changes(result["comparisons"][0], Path(picture))
    return result


def _name(target: Target) -> str:
    """What a model is called: its run, or its folder."""
    return str(target.run.path if target.whole_run and target.run else target.artifact.path)


def _own_source(found: Sequence[Target]) -> str:
    """Where the data of the first run is that can tell."""
    for target in found:
        if target.run and (source := target.run.read()["data"]["source"]) != "memory":
            return str(source)
    raise UsageError(f"none of {', '.join(map(_name, found))} tells where its data is; give it with --data")


def _told(source: Source) -> str:
    return source.source if isinstance(source, Splits) else str(source)


def _part(target: Target, source: Source, split: str, given: bool) -> Dataset:
    """The images, as this model takes them.

    Raises:
        DataError: they are not those that its run was judged on, unless the data was given by the user.
    """
    record: dict[str, Any] = target.run.read()["data"] if target.run else {"source": None}
    try:
        if given:
            return target.splits(source, split).part(split)
        own = target.splits(None, split) if record["source"] == source else target.own_splits(source)
        part = own.part(split)
    except DataError as error:
        raise DataError(f"{_name(target)} cannot be judged on the images of {_told(source)}: {error}") from None
    recorded = target.recorded(split)
    if recorded is not None and recorded != part.fingerprint:
        raise DataError(
            f"models are compared on the same images; the {split} images of {_name(target)} are not those of {source} "
            f"(fingerprints {recorded[:12]} and {part.fingerprint[:12]}); name one data set for all with --data"
        )
    return part


def _places(first: Dataset, part: Dataset, first_name: str, name: str, split: str) -> npt.NDArray[np.intp]:
    """Where the images of the first model are among those of another, `(N,)`.

    Raises:
        DataError: they are not the same images with the same classes.
    """
    fix = "compare on --split test, or name one data set for all with --data"
    order, others = np.argsort(first.ids, kind="stable"), np.argsort(part.ids, kind="stable")
    if not np.array_equal(first.ids[order], part.ids[others]):
        raise DataError(
            f"models are compared on the same images; {first_name} has {len(first):,} {split} images and {name} "
            f"{len(part):,}, and they are not the same; {fix}"
        )
    places = np.empty(len(first), np.intp)
    places[order] = others
    labels = (np.asarray(part.class_names)[part.labels])[places]
    differs = np.flatnonzero(labels != np.asarray(first.class_names)[first.labels])
    if len(differs):
        place = differs[0]
        label = first.class_names[first.labels[place]]
        raise DataError(
            f"models are compared on the same images; {first.ids[place]} is {label!r} for {first_name} and "
            f"{str(labels[place])!r} for {name}; {fix}"
        )
    return places


def _ask(target: Target, part: Dataset) -> tuple[str, Probabilities]:
    """The Candidate that answers, and its answers `(N, C)`: in a process of its own, as the libraries clash."""
    path = target.run.path if target.whole_run and target.run else target.artifact.path
    with (
        worker.scratch("compare") as logs,  # the models may be somebody's who lets us read them only
        images_file(part.images) as images,
        progress.bar(f"answers of {_name(target)}", total=None),
    ):
        facts, output = images.with_name("facts.npz"), images.with_name("answers.npz")
        np.savez(facts, labels=part.labels, ids=part.ids, class_names=np.asarray(part.class_names))
        arguments = {"target": str(path), "images": str(images), "facts": str(facts), "output": str(output)}
        told = worker.call("compare", logs, "answer", arguments, worker.time_limit(len(part)))
        with np.load(output, allow_pickle=False) as saved:
            return told["candidate"], saved["probabilities"]


def _model(target: Target, candidate: str, said: Answers) -> dict[str, Any]:
    """A row about one model: how right it is and what it costs."""
    manifest = target.artifact.manifest
    right = int(said.right.sum())
    return {
        "name": said.name,
        "candidate": candidate,
        "engine": manifest.engine,
        "model": manifest.model.get("name"),
        "recipe": manifest.recipe.get("name"),
        "accuracy": right / len(said.ids),
        "accuracy_interval": list(metrics.wilson_interval(right, len(said.ids))),
        "size_bytes": target.artifact.size_bytes,
        "training": _training(target.run) if target.run else None,
        "fastest": _fastest(target) if target.run else None,
    }


def _training(run: RunDirectory) -> dict[str, Any] | None:
    """What the training took; None of an imported model."""
    path = run.results / "training_summary.json"
    if not path.is_file():
        return None
    summary = files.read_json(path)
    verbs = [verb["seconds"] for verb in run.read()["verbs"] if verb["verb"] == "train" and verb["seconds"]]
    kept = ("epochs", "training_seconds", "images_per_s", "train_images", "parameters", "precision")
    return {
        **{key: summary.get(key) for key in kept},
        "total_seconds": round(sum(verbs), 3) if verbs else None,  # with preparing, compiling, validating and saving
        "machine": _machine(summary.get("host")),
    }


def _fastest(target: Target) -> dict[str, Any] | None:
    """The benchmark's row of the highest throughput, or of an Artifact its usual Candidate's; None if not measured."""
    assert target.run is not None
    path = target.run.results / "benchmark.json"
    if not path.is_file():
        return None
    benchmark = files.read_json(path)
    usual = default_candidate(target.artifact).key
    rows = [row for row in benchmark["rows"] if target.whole_run or row["candidate"] == usual]
    if not rows:
        return None
    row = max(rows, key=lambda row: row["throughput_per_s"])
    kept = ("candidate", "throughput_per_s", "latency_ms_p50", "size_bytes")
    return {**{key: row[key] for key in kept}, "machine": _machine(benchmark.get("host"))}


def _machine(host: dict[str, Any] | None) -> str | None:
    return f"{host['processor']}, threads: {host['threads']}" if host else None


def _warnings(models: Sequence[dict[str, Any]]) -> list[str]:
    """What must not be compared."""
    warnings = []
    for topic, done, figures in (("training", "trained", "seconds"), ("fastest", "measured", "throughputs")):
        machines = {model["name"]: model[topic]["machine"] for model in models if model[topic]}
        if len(set(machines.values())) > 1:
            where = "; ".join(f"{name} on {machine or 'an unknown one'}" for name, machine in machines.items())
            warnings.append(f"they were {done} on different machines, so their {figures} do not compare: {where}")
    return warnings
