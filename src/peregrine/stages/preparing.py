"""The data as a recipe wants it: at its size, with its validation part."""

from dataclasses import replace

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
    fit = Preprocess(size=size, resize=recipe.input.resize).fit_array

    def at_size(part: Dataset) -> Dataset:
        return part if part.image_size == (size, size) else replace(part, images=fit(part.images))

    train, test = at_size(splits.train), at_size(splits.test)
    if (train.counts == 0).any() or len(train.class_names) < 2:
        empty = [name for name, count in zip(train.class_names, train.counts, strict=True) if count == 0]
        found = f"no training image of {', '.join(empty)}" if empty else f"one, {train.class_names[0]}"
        raise DataError(f"a classifier needs two classes or more with images in each; found {found}")
    if recipe.validation == "none":
        validation = None
    elif recipe.validation == "test":
        validation = test
    elif splits.validation is not None:
        validation = at_size(splits.validation)
    else:
        if train.counts.min() < 2:
            rare = train.class_names[int(train.counts.argmin())]
            raise DataError(
                f"validation needs two training images or more of every class; {rare} has one; add images or "
                "use --set validation=none"
            )
        kept, held_out = stratified_split(train.labels, recipe.validation, recipe.seed)
        train, validation = train.subset(kept), train.subset(held_out)
    return replace(splits, train=train, validation=validation, test=test)
