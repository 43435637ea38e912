"""A data set in numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.data import sources
from peregrine.data.base import Options
from peregrine.dataset import Dataset, Splits, channel_statistics


def describe(source: str | Path, options: Options) -> dict[str, Any]:
    """`statistics` of the data that `source` names, and `original`: the sizes that its files had before.

    Raises:
        UsageError, DataError, CheckFailed, MachineError: as `load_dataset`.
    """
    loaded = sources.load(source, options)
    return statistics(loaded.splits) | ({} if loaded.sizes is None else {"original": _sizes(loaded.sizes)})


def statistics(splits: Splits) -> dict[str, Any]:
    """Sizes, classes, colours, balance and fingerprints as plain values for JSON.

    `mean` and `std` are those of the training split's pixels per RGB channel, 0 to 1; what models are normalised with.
    `balance` is the number of images in the smallest class over that in the largest: 1 where all are alike.
    """
    mean, std = channel_statistics(splits.train.images)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    height, width = splits.train.image_size
    return {
        "source": splits.source,
        "classes": list(splits.class_names),
        "height": height,
        "width": width,
        "mean": [value / 255 for value in mean],
        "std": [value / 255 for value in std],
        "splits": {name: _part(part) for name, part in parts.items() if part is not None},
        "notes": list(splits.notes),
    }


def _part(part: Dataset) -> dict[str, Any]:
    return {
        "images": len(part),
        "per_class": dict(zip(part.class_names, part.counts.tolist(), strict=True)),
        "balance": float(part.counts.min() / part.counts.max()) if len(part) else 0.0,
        "fingerprint": part.fingerprint,
    }


def _sizes(sizes: npt.NDArray[np.int32]) -> dict[str, Any]:
    """Smallest, median and largest width and height, and how many different sizes there are."""
    return {
        "different": len(np.unique(sizes, axis=0)),
        **{
            name: {"smallest": int(values.min()), "median": float(np.median(values)), "largest": int(values.max())}
            for name, values in (("width", sizes[:, 0]), ("height", sizes[:, 1]))
        },
    }
