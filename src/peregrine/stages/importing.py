"""Make somebody's model usable: a run with it as the trained model, its preprocessing inside, and a look if it fits."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files, progress
from peregrine.artifact import ANCESTOR, GOLDEN_IMAGES, Artifact, Golden, golden_images
from peregrine.data.base import Resize
from peregrine.data.sources import load_dataset
from peregrine.dataset import Dataset, Images, Splits, channel_statistics
from peregrine.errors import UsageError
from peregrine.export.samples import stratified
from peregrine.foreign.base import OUTPUTS, as_probabilities, find_kind
from peregrine.foreign.pixels import Pixels, alternatives, own_statistics
from peregrine.foreign.suspicion import Findings, look
from peregrine.formats import FORMATS
from peregrine.rundir import RunDirectory, check_free
from peregrine.stages.evaluating import evaluate_part
from peregrine.stages.preparing import described, divided, in_class_order
from peregrine.stages.target import Target
from peregrine.worker import Worker, scratch

logger = logging.getLogger("peregrine")
ENGINE = "imported"  # in the manifest, in the place of what trained the model
# How data is divided for a model without a recipe: the defaults of recipes. It says nothing of how it was trained.
DIVISION: dict[str, Any] = {"validation": 0.1, "seed": 0}
TIMEOUT_S = 900
TRIED_IMAGES, MOST_IMAGES = 300, 2_000  # of the validation split
IMAGES_PER_CLASS = 20  # more where there are many classes, to tell their order
MEASURED_PIXELS = 50_000_000  # of the training split, for its mean and standard deviation
SYNTHETIC_IMAGES = 64


@dataclass(frozen=True)
class _Settings:
    """What the user says of a file, apart from its pixels."""

    path: Path
    kind: str
    layout: str | None
    size: int | None
    outputs: str | None


def import_model(
    file: str | Path,
    classes: Sequence[str] | None = None,
    *,
    data: str | Path | Splits | None = None,
    scale: float = 1.0,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    channels: str = "rgb",
    layout: str | None = None,
    size: int | None = None,
    resize: Resize = "crop",
    outputs: str | None = None,
    run: str | Path | None = None,
) -> Artifact:
    """Make an Artifact of a Keras, ONNX or SavedModel file, in a run of its own, so that every verb can take it.

    The Artifact takes uint8 RGB images and gives probabilities, like every other: `(pixel * scale - mean) / std` goes
    before the model, and a softmax behind one that gives logits. It is asked about a few hundred validation images,
    also with other scales, orders of channels and of classes; what would fit much better is a warning. If there is
    none, the test split is judged.

    Args:
        file: `.onnx`, `.keras`, `.h5`, or the folder of a SavedModel.
        classes: names in the order of the model's outputs; None takes those of the data.
        data: labelled images to judge it by, as for `load_dataset`; None measures nothing.
        scale: what pixels 0..255 are multiplied with.
        mean, std: of scaled pixels, one number or one for each channel, in the model's order of channels.
        channels: `rgb` or `bgr`.
        layout: `NCHW` or `NHWC`; None sees it by the shape of the model's input.
        size: side of the images in pixels, where the model takes any.
        resize: how images of other shapes become square: `crop` the centre or `pad` with black.
        outputs: `logits` or `probabilities`; None sees it by the answers.
        run: folder of the run, by default a new one in `runs/`.

    Raises:
        UsageError: the file is of a kind that cannot be imported, or a value contradicts it.
        DamagedFile: it is not whole.
        CheckFailed: the model's answers cannot be used, or its library crashed.
        DataError: the data has classes that the model does not know.
    """
    path = Path(file)
    settings = _Settings(path, find_kind(path), layout, size, outputs)
    pixels = Pixels.of(channels, scale, mean, std)
    if outputs not in (None, *OUTPUTS):
        raise UsageError(f"--outputs is logits or probabilities; got {outputs!r}")
    if resize not in ("crop", "pad"):
        raise UsageError(f"--resize is crop or pad; got {resize!r}")
    names = _checked(classes)
    if names is None and data is None:
        raise UsageError("a model needs the names of its classes; give --classes, or --data with the same classes")
    if run is not None:
        check_free(Path(run))
    with scratch("import") as folder, Worker("import", folder) as worker:
        with progress.bar(f"look at {path.name}", total=None):
            found = _inspect(worker, settings, len(names) if names else None)
        splits = _splits(data, found["size"], resize)
        names = names or (splits.class_names if splits else ())
        if len(names) != found["classes"]:
            raise UsageError(
                f"--classes names each output; {path} has {found['classes']}, and {len(names)} names are given"
            )
        if found["dtype"] == "uint8" and not pixels.untouched:
            raise UsageError(f"{path} takes pixels as they are (uint8); leave out --scale, --mean and --std")
        record: dict[str, Any] = {"source": "memory"}
        if splits is not None:
            splits = in_class_order(splits, names)
            record = described(splits, found["size"], resize)
        with progress.bar(f"import {path.name}", total=None):
            outcome = _import(worker, settings, found, names, pixels, splits, folder)
        new = RunDirectory.create(Path(run), None, record) if run is not None else RunDirectory.create_new(
            None, record, label=f"import-{path.stem}"
        )  # fmt: skip
        with new.lock(), new.verb("import"):
            return _write(new, settings, found, names, pixels, resize, splits, outcome, folder)


def _inspect(worker: Worker, settings: _Settings, classes: int | None) -> dict[str, Any]:
    arguments = {**_arguments(settings), "classes": classes}
    found: dict[str, Any] = worker.call("inspect-model", arguments, TIMEOUT_S)
    return found


def _arguments(settings: _Settings) -> dict[str, Any]:
    return {
        "path": str(settings.path),
        "kind": settings.kind,
        "layout": settings.layout,
        "size": settings.size,
    }


@dataclass(frozen=True)
class _Outcome:
    """What came of the model in the worker: the content of its answer, golden images, and what validation says."""

    told: dict[str, Any]
    golden: Golden
    findings: Findings | None


def _import(
    worker: Worker,
    settings: _Settings,
    found: dict[str, Any],
    names: tuple[str, ...],
    pixels: Pixels,
    splits: Splits | None,
    folder: Path,
) -> _Outcome:
    judged = None
    others: list[Pixels] = []
    images = _synthetic(found["size"])
    golden = images[:GOLDEN_IMAGES]
    if splits is not None and splits.validation is not None:
        judged = _drawn(splits.validation)
        images, golden = judged.images[:], golden_images(splits.test)
        measured = splits.train.subset(stratified(splits.train, MEASURED_PIXELS // found["size"] ** 2))
        others = alternatives(pixels, own_statistics(*channel_statistics(measured.images)), found["dtype"] == "uint8")
    samples, answers, written = folder / "samples.npz", folder / "answers.npz", folder / "model"
    written.mkdir()
    np.savez(samples, images=images, golden=golden)
    told = worker.call(
        "import-model",
        {
            **_arguments(settings),
            "layout": found["layout"],
            "size": found["size"],
            "classes": len(names),
            "pixels": pixels.to_dict(),
            "outputs": settings.outputs,
            "others": [other.to_dict() for other in others],
            "samples": str(samples),
            "folder": str(written),
            "answers": str(answers),
        },
        TIMEOUT_S,
    )
    with np.load(answers, allow_pickle=False) as arrays:
        made = Golden(golden, {ANCESTOR: arrays["golden"]})
        ways = [(pixels, "given"), *((other, str(number)) for number, other in enumerate(others))]
        asked = [(way, as_probabilities(arrays[key], told["outputs"])) for way, key in ways]
    return _Outcome(told, made, look(asked, judged.labels, names) if judged is not None else None)


def _write(
    run: RunDirectory,
    settings: _Settings,
    found: dict[str, Any],
    names: tuple[str, ...],
    pixels: Pixels,
    resize: Resize,
    splits: Splits | None,
    outcome: _Outcome,
    folder: Path,
) -> Artifact:
    format = FORMATS[found["format"]]
    source = {"file": settings.path.name, "sha256": _sha256(settings.path)}
    told = {key: outcome.told[key] for key in ("outputs", "found_out", "largest_difference")}
    preprocessing = {"layout": found["layout"], **pixels.to_dict(), **told}
    like = {
        "class_names": names,
        "preprocess": {"size": found["size"], "resize": resize},
        "model": {"name": settings.path.stem},
        "engine": ENGINE,
        "recipe": DIVISION,
        "temperature": 1.0,
    }
    notes = {**found["notes"], "imported": {**source, **preprocessing}}
    path = run.artifact_path(format.name)
    with Artifact.write(path, format=format.name, like=like, golden=outcome.golden, notes=notes) as made:
        shutil.copyfile(folder / "model" / format.file, made / format.file)
    artifact = Artifact.open(path)
    warnings = _warnings(settings.path, outcome, splits)
    files.write_json(run.results / "import.json", {
        "schema": 1,
        **source,
        "path": str(settings.path),
        "kind": settings.kind,
        "format": format.name,
        "artifact_id": artifact.id,
        "size": found["size"],
        **preprocessing,
        "options": pixels.options(),
        "class_names": list(names),
        "notes": found["notes"],
        "validation": outcome.findings.to_dict() if outcome.findings else None,
        "warnings": warnings,
    })  # fmt: skip
    for warning in warnings:
        logger.warning("%s", warning)
    fits = outcome.findings is not None and not outcome.findings.near_chance and outcome.findings.mending is None
    if splits is not None and fits:
        target = Target(artifact, run, whole_run=True)
        evaluate_part(target, splits.test, "test", None, record=True, validation=splits.validation)
    return artifact


def _warnings(path: Path, outcome: _Outcome, splits: Splits | None) -> list[str]:
    """What a user should know before this model is used."""
    said = []
    findings = outcome.findings
    if splits is None:
        said.append(f"nothing was measured: whether {path.name} gets what it was trained on is not known; give --data")
    if outcome.told["between"]:
        said.append(
            "each output lies between 0 and 1, but they do not sum to 1, as of a sigmoid per class; a softmax was put "
            "behind them, which keeps the best class and makes probabilities of all classes more alike"
        )
    if findings is None:
        return said
    wrong = f"right on {findings.correct:,} of {findings.images:,} validation images"
    if findings.mending:
        better = findings.mending
        what = " and ".join(
            part
            for part, found in (("preprocessing", better.pixels), ("order of classes", better.class_names))
            if found
        )
        said.append(
            f"this looks like the wrong {what}: {100 * better.accuracy:.1f}% instead of {100 * better.before:.1f}% of "
            f"{better.images:,} validation images are right with {better.options()}; import it again with that"
        )
    elif findings.near_chance:
        said.append(
            f"this is near chance: {wrong}, and no usual scale, order of channels or of classes is much better; check "
            "--size, --mean and --std, and that the data has the classes that the model was trained on"
        )
    if said and (findings.mending or findings.near_chance):
        said[-1] += "; the test split was left alone"
    return said


def _checked(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    names = tuple(str(name).strip() for name in classes)
    if len(names) < 2 or not all(names):
        raise UsageError(f"--classes has two names or more, none of them empty; got {', '.join(names) or 'none'}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"--classes names each class once; got {twice!r} again")
    return names


def _splits(data: str | Path | Splits | None, size: int, resize: Resize) -> Splits | None:
    if data is None:
        return None
    loaded = data if isinstance(data, Splits) else load_dataset(data, size=size, resize=resize)
    return divided(loaded, size, resize, **DIVISION)


def _drawn(validation: Dataset) -> Dataset:
    """Some validation images, all classes alike, in random order."""
    count = min(MOST_IMAGES, max(TRIED_IMAGES, IMAGES_PER_CLASS * len(validation.class_names)))
    chosen = stratified(validation, count)
    return validation.subset(np.random.default_rng(0).permutation(chosen))


def _synthetic(size: int) -> Images:
    """Noise, in place of images that nobody gave."""
    return np.random.default_rng(0).integers(0, 256, (SYNTHETIC_IMAGES, size, size, 3), np.uint8)


def _sha256(path: Path) -> str | dict[str, str]:
    if path.is_file():
        return files.sha256(path)
    entries = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return {entry.relative_to(path).as_posix(): files.sha256(entry) for entry in entries}
