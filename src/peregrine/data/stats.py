"""A data set in numbers."""

from typing import Any

from peregrine.dataset import Dataset, Splits, channel_statistics


def statistics(splits: Splits) -> dict[str, Any]:
    """Sizes, classes, colours and fingerprints as plain values for JSON.

    `mean` and `std` are those of the training split's pixels per RGB channel, 0 to 1; what models are normalised with.
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
        "fingerprint": part.fingerprint,
    }
