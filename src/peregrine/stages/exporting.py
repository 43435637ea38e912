"""Convert a trained model to other formats, and prove that each still predicts the same."""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from peregrine import files, metrics, progress, worker
from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate, candidates, default_candidate
from peregrine.dataset import Dataset, ImageArray, Splits, blocks
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, UsageError, machine_error
from peregrine.export.routes import is_fixable, reachable, route, takes_static
from peregrine.export.samples import draw
from peregrine.export.triton import is_served, write_model
from peregrine.formats import find_format
from peregrine.parity import LIMITS, Verdict, compare
from peregrine.rundir import RunDirectory
from peregrine.stages import explaining
from peregrine.stages.evaluating import ancestor_answers
from peregrine.stages.outcomes import Export, record, refuse, warn_of_slow
from peregrine.stages.target import Target

logger = logging.getLogger("peregrine")
CONVERT_TIMEOUT_S = 900
LARGEST_STATIC_BATCH = 10_000


def export(
    target: str | Path | Artifact,
    formats: str | Sequence[str] = "all",
    *,
    data: str | Path | Splits | None = None,
    triton: str | Path | None = None,
    explain: bool = False,
    batch: int | None = None,
) -> list[Export]:
    """Convert along the shortest route, prove parity on the whole test split, write the Artifacts.

    Args:
        target: a run, or an Artifact of one.
        formats: `"onnx"`, several of them, or `"all"` for what this machine can build.
        data: where the run's data is, when the run cannot tell, for example because it was trained on arrays.
        triton: folder of a Triton model repository, into which what was proved is written too.
        explain: find the layer at which an ONNX or Keras file that fails its proof parts from the trained model.
        batch: the number of images that the models take at once, instead of any number: for ONNX, OpenVINO and
            TensorRT. They lie beside those that take any, in `artifacts/onnx-batch8`; a Runtime fills up what is left
            over of a longer row of images.

    Returns:
        One entry per format. With `"all"`, what cannot be built is `skipped` with its reason.

    Raises:
        UsageError: an unknown format, no way to it, with `triton` none that Triton serves, or with `batch` one that
            cannot have it.
        MissingDependency: a library for a format named explicitly is not installed.
        MissingDevice: a format named explicitly was built, and cannot be proved here.
        CheckFailed: a conversion named explicitly failed, or with `"all"` one to fp32; or the test images are not those
            of the run. Of other validation images, conversions to INT8 alone fail.
        ParityFailed: a format named explicitly predicts something else, or with `"all"` an fp32 one does.
    """
    outcomes = attempt(target, formats, data=data, triton=triton, explain=explain, batch=batch)
    refuse(outcomes, everything=formats == "all")
    return outcomes


def attempt(
    target: str | Path | Artifact,
    formats: str | Sequence[str] = "all",
    *,
    data: str | Path | Splits | None = None,
    triton: str | Path | None = None,
    explain: bool = False,
    batch: int | None = None,
) -> list[Export]:
    """`export` without an error for a format that came to nothing: so that what did succeed can be told first."""
    found = Target.find(target)
    if found.run is None:
        raise UsageError(f"exports are written into a run; {found.artifact.path} is in none")
    ancestor = found.run.ancestor()
    wanted = _wanted(ancestor, formats, batch)
    if triton is not None and not any(is_served(find_format(format).file) for format in wanted):
        raise UsageError(f"Triton serves ONNX, OpenVINO and TensorRT; got {', '.join(wanted)}; add a format to --to")
    splits = found.own_splits(data)
    found.require(splits, "test")
    with found.run.lock(), found.run.verb("export"):
        outcomes = export_and_prove(found, splits, wanted, explain, batch)
        if triton is not None:
            outcomes = [_write_triton(found.run, outcome, Path(triton)) for outcome in outcomes]
    return outcomes


def _wanted(ancestor: Artifact, formats: str | Sequence[str], batch: int | None) -> list[str]:
    """The names of the formats to make, which all can be made."""
    source = ancestor.manifest.format
    if batch is not None and not 1 <= batch <= LARGEST_STATIC_BATCH:
        raise UsageError(f"a static batch has 1 to {LARGEST_STATIC_BATCH:,} images; got {batch}")
    if formats == "all":
        several = len(list(candidates(ancestor))) > 1  # an imported ONNX file: OpenVINO's answers have to be proved too
        possible = [source, *reachable(source)] if several else reachable(source)
        return [name for name in possible if batch is None or takes_static(source, name)]
    wanted = [formats] if isinstance(formats, str) else list(formats)
    for name in wanted:
        find_format(name)
        route(source, name)
        if batch is not None and not takes_static(source, name):
            raise UsageError(
                f"ONNX, OpenVINO and TensorRT can have a static batch; {name} cannot; leave it or --batch out"
            )
    return wanted


def export_and_prove(
    target: Target, splits: Splits, formats: Sequence[str], explain: bool = False, batch: int | None = None
) -> list[Export]:
    """`export` with the data at hand and the run locked; a format that fails costs itself only."""
    run, test = target.run, splits.test
    assert run is not None
    ancestor = run.ancestor()
    expected = ancestor_answers(target, test)
    outcomes = []
    with images_file(test.images, run.cache) as images:

        @functools.cache
        def samples() -> Path:
            return _draw_samples(target, splits, images.with_name("samples.npz"))

        for format in formats:
            try:
                artifact = _convert(run, ancestor, format, samples, batch)
            except (MissingDependency, MissingDevice) as error:
                outcomes.append(Export(format, "skipped", str(error), None, [], batch=batch))
                continue
            except CheckFailed as error:
                outcomes.append(Export(format, "failed", str(error), None, [], batch=batch))
                continue
            outcomes.append(_prove(run, artifact, images, test, expected, explain))
            record(run, test, outcomes)  # a long export that is ended leaves what it has proved
    record(run, test, outcomes)
    warn_of_slow(run, outcomes)
    return outcomes


def _draw_samples(target: Target, splits: Splits, path: Path) -> Path:
    """Write what conversions to INT8 look at; never test images, even where the recipe validates on them.

    Raises:
        CheckFailed: the validation images, which settings are chosen on, are not those of the run.
    """
    if target.held_out:
        target.require(splits, "validation")
    validation = splits.validation if target.held_out else None
    limits = LIMITS["int8"]
    samples = draw(
        splits.train, validation, lambda part: ancestor_answers(target, part), limits.agreement, limits.drop_points
    )
    samples.save(path)
    return path


def _convert(
    run: RunDirectory, ancestor: Artifact, format: str, samples: Callable[[], Path], batch: int | None
) -> Artifact:
    """Walk the route, reusing what an earlier export of the same ancestor left; `samples` are for steps to INT8.

    A static batch comes at the end, so that nothing is calibrated again for it; what cannot be written again, such as a
    plan, is made of a file that has it.
    """
    here = ancestor
    for step in route(ancestor.manifest.format, format):
        inherits = batch is not None and step.target == format and not is_fixable(format)
        path = run.artifact_path(step.target, batch if inherits else None)
        if (step.target != format or (batch and not inherits)) and (path / "manifest.json").is_file():
            existing = Artifact.open(path)
            if existing.manifest.parent == here.id:
                here = existing
                continue
        if inherits:
            here = _with_batch(run, here, batch)
        arguments = {"edge": step.edge, "source": str(here.path), "target": str(path), "format": step.target}
        if step.calibrates:
            arguments["samples"] = str(samples())
        with progress.bar(f"convert {step.source} to {step.target}", total=None):
            worker.call(f"export-{step.edge}", run.logs, "convert", arguments, CONVERT_TIMEOUT_S)
        here = Artifact.open(path)
    return here if here.batch == batch else _with_batch(run, here, batch)


def _with_batch(run: RunDirectory, source: Artifact, batch: int | None) -> Artifact:
    """The Artifact again, for batches of one size."""
    format = source.manifest.format
    path = run.artifact_path(format, batch)
    arguments = {"source": str(source.path), "target": str(path), "batch": batch}
    with progress.bar(f"write {format} for batches of {batch}", total=None):
        worker.call(f"export-{path.name}", run.logs, "fix-batch", arguments, CONVERT_TIMEOUT_S)
    return Artifact.open(path)


def _prove(
    run: RunDirectory, artifact: Artifact, images: Path, test: Dataset, expected: Probabilities, explain: bool
) -> Export:
    """Every Candidate has its verdict; the format's is that of those which run in the precision of its file."""
    rows: list[dict[str, Any]] = []
    reason, crashed = "", False
    for candidate in candidates(artifact):
        once = explain and all(row["verdict"] != "failed" for row in rows)  # the file is the same for all of them
        try:
            rows.append(_prove_candidate(run, candidate, artifact, images, test, expected, once))
        except (MissingDependency, MissingDevice) as error:
            logger.info("%s not proved: %s", candidate.key, error)
            reason = reason or str(error)
        except CheckFailed as error:
            logger.warning("%s not proved: %s", candidate.key, error)
            reason, crashed = str(error), True
    if not rows:
        status = "failed" if crashed else "unproved"
        return Export(artifact.manifest.format, status, reason, artifact.path, [], batch=artifact.batch)
    judged = [row for row in rows if row["precision"] == artifact.manifest.precision]
    verdicts = [row["verdict"] for row in judged]
    status = next((verdict for verdict in ("failed", "inconclusive") if verdict in verdicts), "proved")
    reason = "; ".join(f"{row['candidate']}: {text}" for row in judged for text in row["reasons"])
    return Export(artifact.manifest.format, status, reason, artifact.path, rows, batch=artifact.batch)


def _prove_candidate(
    run: RunDirectory,
    candidate: Candidate,
    artifact: Artifact,
    images: Path,
    test: Dataset,
    expected: Probabilities,
    explain: bool,
) -> dict[str, Any]:
    output = images.with_name("answers.npz")
    arguments = {"candidate": candidate.to_dict(), "images": str(images), "output": str(output)}
    with progress.bar(f"prove {candidate.key}", total=None):
        limit = worker.time_limit(len(test))
        ran = worker.call(f"prove-{candidate.key}", run.logs, "predict", arguments, limit)
    with np.load(output, allow_pickle=False) as answers:
        probabilities, golden = answers["probabilities"], answers["golden"]
    verdict = compare(expected, probabilities, test.labels, LIMITS[candidate.precision])
    if explain and not verdict.passed:
        worst = np.sort(np.argsort(-np.abs(probabilities - expected).max(axis=1))[: explaining.IMAGES])
        told = explaining.explain(run, candidate, artifact, test.images[worst], images.parent)
        verdict = replace(verdict, reasons=(*verdict.reasons, told))
    row = {**parity_row(candidate, verdict, ran["provider"]), "predict_seconds": ran["seconds"]}
    evidence = {**artifact.evidence().get("parity", {}), candidate.key: {**row, "fingerprint": test.fingerprint}}
    artifact.learn("parity", evidence, {candidate.key: golden} if verdict.passed else None)
    if candidate == default_candidate(artifact) and np.isfinite(probabilities).all():
        artifact.learn(f"evaluation:test:{test.fingerprint[:12]}", _accuracy(probabilities, test, candidate))
    return row


def _write_triton(run: RunDirectory, outcome: Export, repository: Path) -> Export:
    """Put an export that Triton serves into its repository; what is not written says why in the log."""
    if outcome.artifact is None or not is_served(find_format(outcome.format).file):
        return outcome
    try:
        name = f"{run.path.absolute().name}-{outcome.name}"
        return replace(outcome, triton=write_model(Artifact.open(outcome.artifact), repository, name))
    except CheckFailed as error:
        logger.warning("%s is not in %s: %s", outcome.name, repository, error)
        return outcome


def parity_row(candidate: Candidate, verdict: Verdict, provider: str) -> dict[str, Any]:
    """One row of parity.json."""
    who = {"candidate": candidate.key, "format": candidate.format, "runtime": candidate.runtime}
    how = {"provider": provider, "precision": candidate.precision, "batch": candidate.batch}
    return {**who, **how, **verdict.to_dict()}


def _accuracy(probabilities: Probabilities, test: Dataset, candidate: Candidate) -> dict[str, Any]:
    figures = metrics.evaluate(probabilities, test.labels, test.class_names)
    kept = {key: figures[key] for key in ("images", "accuracy", "accuracy_interval", "loss", "ece")}
    return {"candidate": candidate.key, **kept}


@contextmanager
def images_file(images: ImageArray, cache: Path | None = None) -> Iterator[Path]:
    """The images as an .npy file in a folder of its own, which workers map into memory; removed afterwards.

    Args:
        images: copied some at a time, as they may be more than fits into memory.
        cache: of a run that is locked: what a kill leaves there goes with the next lock. None is for those that hold
            no run, and takes the system's place for temporary files.

    Raises:
        MachineError: there is no room for them.
    """
    with ExitStack() as stack:
        if cache:
            folder = stack.enter_context(files.scratch_folder(cache))
        else:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="peregrine-images-")))
        path = folder / "images.npy"
        try:
            with path.open("wb") as file:  # not through a map, which would crash where the disk is full
                head = {"descr": images.dtype.str, "fortran_order": False, "shape": images.shape}
                np.lib.format.write_array_header_1_0(file, head)
                for block in blocks(images):
                    file.write(np.ascontiguousarray(block).data)
        except OSError as error:
            raise machine_error(error, folder.parent) from error
        yield path
