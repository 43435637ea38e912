"""Classify images: files of the user, or a random sample of the test split as a picture."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import host, progress
from peregrine.artifact import Artifact, Probabilities
from peregrine.dataset import Images, Splits
from peregrine.errors import CheckFailed, DataError, UsageError
from peregrine.preprocess import SUFFIXES, BadImage
from peregrine.runtimes.base import BATCH, Runtime
from peregrine.stages import plots
from peregrine.stages.opening import answering
from peregrine.stages.rejecting import threshold_of
from peregrine.stages.target import Target

NO_NUMBERS = "the model answers with NaN or infinity, not with probabilities"


def predict(
    target: str | Path | Artifact,
    images: Sequence[str | Path],
    *,
    top: int = 3,
    runtime: str | None = None,
) -> list[dict[str, Any]]:
    """Class and probability of image files, and of all images in folders.

    Args:
        target: an Artifact, or a run: the Candidate that `best` chose answers, or what says the same as the trained
            model where there is none (see `opening.answering`).
        images: JPEG, PNG, WEBP or BMP files, or folders of them; hidden files and folders in these are passed over.
        top: how many classes to tell per image.

    Returns:
        One row per file, in order: `file`, `class`, `probability`, `uncertain` (whether the probability is below the
        run's reject threshold; None where there is none), `top` (pairs of class and probability); or `file` and
        `error` for a file that is no usable image, or that the model answers with NaN or infinity.

    Raises:
        DataError: a path does not exist, or there is no image at all.
    """
    _check_top(top)
    files = list(_find_images([Path(image) for image in images]))
    if not files:
        raise DataError(f"found no image ({', '.join(SUFFIXES)}) in {', '.join(str(image) for image in images)}")
    threshold = threshold_of(Target.find(target))
    rows: list[dict[str, Any]] = []
    with (
        answering(target, runtime).open() as opened,
        progress.bar("predict", total=len(files), unit="image") as advance,
    ):
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            rows += _predict_files(opened, part, top, threshold)
            advance(len(part))
    return rows


def sample(
    target: str | Path | Artifact,
    count: int,
    *,
    top: int = 3,
    data: str | Path | Splits | None = None,
    seed: int = 0,
    picture: Path | None = None,
    runtime: str | None = None,
) -> tuple[list[dict[str, Any]], Path]:
    """Classify `count` random test images and draw them with true and predicted label.

    Args:
        top: how many classes to tell per image.
        seed: which images, 0 or more.
        picture: where to draw, a PNG; by default the run's `results/prediction_sample.png`.

    Returns:
        Rows as of `predict`, with `true` for the label; and the path of the picture.

    Raises:
        CheckFailed: the model answers with NaN or infinity.
    """
    if count < 1:
        raise UsageError(f"--sample takes 1 or more; got {count}")
    if seed < 0:
        raise UsageError(f"a seed is 0 or more; got {seed}")
    _check_top(top)
    if picture is not None:
        plots.check_name(picture)
    found = Target.find(target)
    test = found.splits(data).test
    chosen = np.random.default_rng(seed).choice(len(test), min(count, len(test)), replace=False)
    part = test.subset(chosen)
    with answering(target, runtime).open() as opened:
        probabilities = opened.predict(part.images)
    unsound = ~np.isfinite(probabilities).all(axis=1)
    if unsound.any():
        told = f"{unsound.sum():,} of {len(part):,} images, the first is {part.ids[unsound.argmax()]}"
        raise CheckFailed(f"{NO_NUMBERS}, for {told}")
    if picture is None:
        picture = found.run.results / "prediction_sample.png" if found.run else Path("prediction_sample.png")
    plots.prediction_sample(part, probabilities, picture)
    threshold = threshold_of(found)
    rows = [
        {**_row(str(name), part.class_names, answer, top, threshold), "true": part.class_names[label]}
        for name, answer, label in zip(part.ids, probabilities, part.labels, strict=True)
    ]
    return rows, picture


def _check_top(top: int) -> None:
    if top < 1:
        raise UsageError(f"top is 1 or more; got {top}")


def _find_images(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            yield from sorted(file for file in found if not _is_hidden(file.relative_to(path)))
        elif path.is_file():
            yield path
        else:
            raise DataError(f"expected an image or a folder of images at {path}; nothing is there")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _predict_files(runtime: Runtime, files: list[Path], top: int, threshold: float | None) -> list[dict[str, Any]]:
    """Decode on all cores; a bad file gets a row that says why, and costs no other file anything."""

    def read(file: Path) -> Images | str:
        try:
            return runtime.preprocess(file)
        except (BadImage, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(host.threads()) as pool:
        decoded = list(pool.map(read, files))
    good = [image for image in decoded if not isinstance(image, str)]
    answers = iter(runtime.predict(np.stack(good)) if good else ())
    return [
        {"file": str(file), "error": image} if isinstance(image, str) else
        _row(str(file), runtime.class_names, next(answers), top, threshold)
        for file, image in zip(files, decoded, strict=True)
    ]  # fmt: skip


def _row(
    name: str, class_names: tuple[str, ...], answer: Probabilities, top: int, threshold: float | None
) -> dict[str, Any]:
    if not np.isfinite(answer).all():
        return {"file": name, "error": NO_NUMBERS}
    order = np.argsort(-answer, kind="stable")[:top]
    return {
        "file": name,
        "class": class_names[order[0]],
        "probability": float(answer[order[0]]),
        "uncertain": None if threshold is None else bool(answer[order[0]] < threshold),
        "top": [[class_names[index], float(answer[index])] for index in order],
    }
