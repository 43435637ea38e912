"""What TensorBoard shows of a run, the same for both engines; steps are epochs, counted from 1."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from peregrine.dataset import Images, Labels
from peregrine.engines.base import TrainingJob
from peregrine.engines.events import EventWriter, Floats
from peregrine.engines.history import EpochRow
from peregrine.engines.pictures import GRID_COLUMNS, confusion_matrix, grid

SHOWN_IMAGES = GRID_COLUMNS**2  # more need not be handed over


@contextlib.contextmanager
def open_events(job: TrainingJob, first_epoch: int) -> Iterator[EventWriter | None]:
    """The run's event files with its recipe as a text, or None where the recipe wants no event files.

    Args:
        first_epoch: the epoch that a resumed run goes on with; 0 for a run from its first step.
    """
    if not job.recipe.callbacks.tensorboard:
        yield None
        return
    with EventWriter(job.run.logs / "tensorboard", first_epoch) as events:
        events.text("recipe", f"```toml\n{job.recipe.to_toml()}```")
        yield events


def wants_histograms(job: TrainingJob) -> bool:
    """Whether `write_epoch` is to be given weights and gradients."""
    return job.recipe.callbacks.tensorboard and job.recipe.callbacks.histograms


def write_epoch(
    events: EventWriter,
    job: TrainingJob,
    row: EpochRow,
    *,
    images: Images,
    predicted: Labels | None,
    weights: Mapping[str, Floats],
    gradients: Mapping[str, Floats],
) -> None:
    """Write what TensorBoard shows of a finished epoch.

    Args:
        images: uint8 `(N, H, W, 3)`, the first training images of the epoch as the network saw them.
        predicted: class of each image in `job.validation`, int64 `(N,)`; None where none was judged.
        weights: each trained weight by its name, after the epoch; empty where no histograms are wanted.
        gradients: of the loss by the same names, in the epoch's last step or, after it, of `images`; likewise.
    """
    events.scalars(row.scalars(), row.epoch)
    events.image("training_images", grid(images), row.epoch)
    if job.validation is not None and predicted is not None:
        names = job.validation.class_names
        pairs = job.validation.labels * len(names) + predicted
        counts = np.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))
        events.image("confusion_matrix", confusion_matrix(counts, names), row.epoch)
    spread = {f"weights/{name}": values for name, values in weights.items()}
    spread |= {f"gradients/{name}": values for name, values in gradients.items()}
    if spread:
        events.histograms(spread, row.epoch)
