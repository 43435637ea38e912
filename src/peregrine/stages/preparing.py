"""The data as a recipe, or a model, wants it: at its size, with its validation part."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from peregrine.data.base import Resize
from peregrine.dataset import Dataset, Splits, stratified_split
from peregrine.errors import DataError
from peregrine.preprocess import Preprocess
from peregrine.recipe import Recipe


def prepared(splits: Splits, recipe: Recipe) -> Splits:
    """The splits at the recipe's size, with the validation part that the recipe asks for.

    Raises:
        DataError: fewer than two classes, a class without images, or too few images to hold some out.
    """
    size = splits.train.image_size[0] if recipe.input.size == "auto" else recipe.input.size
    return divided(splits, size, recipe.input.resize, recipe.validation, recipe.seed)


def divided(
    splits: Splits, size: int, resize: Resize, validation: float | Literal["none", "test"], seed: int
) -> Splits:
    """`prepared`, by what of a recipe decides it."""
    splits = resized(splits, size, resize)
    train, test = splits.train, splits.test
    if (train.counts == 0).any() or len(train.class_names) < 2:
        empty = [name for name, count in zip(train.class_names, train.counts, strict=True) if count == 0]
        found = f"no training image of {', '.join(empty)}" if empty else f"one, {train.class_names[0]}"
        raise DataError(f"a classifier needs two classes or more with images in each; found {found}")
    held_out: Dataset | None
    if validation == "none":
        held_out = None
    elif validation == "test":
        held_out = test
    elif splits.validation is not None:
        held_out = splits.validation
    else:
        if train.counts.min() < 2:
            rare = train.class_names[int(train.counts.argmin())]
            raise DataError(
                f"validation needs two training images or more of every class; {rare} has one; add images or "
                "use --set validation=none"
            )
        kept, chosen = stratified_split(train.labels, validation, seed)
        train, held_out = train.subset(kept), train.subset(chosen)
    return replace(splits, train=train, validation=held_out)


def resized(splits: Splits, size: int, resize: Resize) -> Splits:
    """The same images as squares of that size."""
    fit = Preprocess(size=size, resize=resize).fit_array

    def at_size(part: Dataset) -> Dataset:
        return part if part.image_size == (size, size) else replace(part, images=fit(part.images))

    validation = at_size(splits.validation) if splits.validation is not None else None
    return replace(splits, train=at_size(splits.train), validation=validation, test=at_size(splits.test))


def in_class_order(splits: Splits, class_names: Sequence[str]) -> Splits:
    """The same images with labels that index a model's classes.

    Raises:
        DataError: the data has a class that the model does not know.
    """
    validation = splits.validation
    return replace(
        splits,
        train=splits.train.in_class_order(class_names),
        validation=validation.in_class_order(class_names) if validation is not None else None,
        test=splits.test.in_class_order(class_names),
    )


def described(splits: Splits, size: int | str, resize: Resize) -> dict[str, Any]:
    """What a run remembers of its data."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    present = {name: part for name, part in parts.items() if part is not None}
    return {
        "source": splits.source,
        "notes": list(splits.notes),
        "class_names": list(splits.class_names),
        "size": size,
        "resize": resize,
        "images": {name: len(part) for name, part in present.items()},
        "fingerprints": {name: part.fingerprint for name, part in present.items()},
    }
