"""How a model bears corrupted images: its error under 15 corruptions at 5 severities."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from peregrine import host, metrics, progress
from peregrine.artifact import Probabilities
from peregrine.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from peregrine.corruptions.published import settings
from peregrine.dataset import Dataset, Images
from peregrine.export.samples import stratified
from peregrine.runtimes.base import Runtime

IMAGES = 1_000  # of the split, all classes alike; each is predicted 75 times
BLOCK_PIXELS = 125 * 32 * 32  # that a thread corrupts at once: so many stay in its cache


def measure_robustness(runtime: Runtime, part: Dataset, plain: Probabilities) -> dict[str, Any]:
    """The errors of a model on corrupted images.

    Args:
        part: images of which up to `IMAGES` are taken.
        plain: what the model says to all of them as they are, `(N, C)`.

    Returns:
        `mean_corruption_error`, the mean over all corruptions and severities, not divided by another model's; its 95%
        `interval` by the drawing of images; `clean_error` on the same images; `images`; `settings`, the published data
        set whose strengths were used; `corruptions`, by name, the errors at severities 1 to 5; `seconds`.
    """
    started = time.perf_counter()
    chosen = stratified(part, IMAGES)
    sample = part.subset(chosen)
    images, wrong = sample.images[:], np.empty((len(CORRUPTIONS), len(SEVERITIES), len(sample)))
    with (
        ThreadPoolExecutor(host.threads()) as pool,
        progress.bar("robustness", total=wrong.size, unit="image") as advance,
    ):
        for row, name in enumerate(CORRUPTIONS):
            for column, severity in enumerate(SEVERITIES):
                done = 0
                for block in _corrupted(pool, images, name, severity):
                    labels = sample.labels[done : done + len(block)]
                    wrong[row, column, done : done + len(block)] = runtime.predict(block).argmax(1) != labels
                    done += len(block)
                advance(done, f"{name}, severity {severity}")
    errors = wrong.mean(2)
    return {
        "mean_corruption_error": float(errors.mean()),
        "interval": np.clip(metrics.paired_interval(wrong.mean((0, 1))), 0, 1).tolist(),
        "clean_error": float((plain[chosen].argmax(1) != sample.labels).mean()),
        "images": len(sample),
        "settings": settings(images.shape[1]).name,
        "corruptions": {name: errors[row].tolist() for row, name in enumerate(CORRUPTIONS)},
        "seconds": time.perf_counter() - started,
    }


def _corrupted(pool: ThreadPoolExecutor, images: Images, name: str, severity: int) -> Iterator[Images]:
    """The images block by block, each with a seed of its own, however many threads there are."""
    size = max(1, BLOCK_PIXELS // (images.shape[1] * images.shape[2]))
    blocks = [images[start : start + size] for start in range(0, len(images), size)]
    return pool.map(lambda seed, block: corrupt(block, name, severity, seed), range(len(blocks)), blocks)
