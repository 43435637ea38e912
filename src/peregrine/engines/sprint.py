"""What the network `sprint` is on both engines: its options, and how many whitening filters the images support."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from peregrine.dataset import Images, channel_statistics
from peregrine.engines.whitening import filter_count
from peregrine.errors import DataError, RecipeError
from peregrine.validation import Table

PATCH = 2  # side of the whitened patches

Activation = Literal["gelu", "silu", "relu", "hard-swish"]
Width = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=1, le=4)]


class Options(Table):
    """Sizes of the network.

    Attributes:
        widths: channels of each group.
        depth: convolutions in each group: one number for all, or one for each.
        skip_from: in groups of so many convolutions or more, the first one's activation also goes past the others and
            joins the last one's norm; 3 as in airbench96, 5 for none.
        activation: after the whitening and after every norm.
        whitening: number of whitening filters, two for each direction in which patches vary; `auto` takes all that the
            training images support: 24 for colour, 8 for grey.
        whitening_bias: share of the run in which the bias of the whitening learns; after it no gradient goes so deep.
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (32, 128, 256)
    depth: Depth | tuple[Depth, ...] = 2
    skip_from: Annotated[int, Field(ge=2, le=5)] = 3
    activation: Activation = "gelu"
    whitening: Annotated[int, Field(ge=2, le=2 * 3 * PATCH**2, multiple_of=2)] | Literal["auto"] = "auto"
    whitening_bias: Annotated[float, Field(ge=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _one_depth_for_each_group(self) -> Self:
        if len(self.depths) != len(self.widths):
            raise ValueError(
                f"depth has one number for each of widths, or one for all; got {list(self.depths)} for "
                f"{list(self.widths)}"
            )
        return self

    @property
    def depths(self) -> tuple[int, ...]:
        """Convolutions in each group."""
        return self.depth if isinstance(self.depth, tuple) else (self.depth,) * len(self.widths)


def resolve(options: Options, images: Images) -> Options:
    """Settle the number of whitening filters.

    Args:
        images: a sample of the training images, uint8 `(n, H, W, 3)`.

    Raises:
        DataError: the images do not vary.
        RecipeError: there are fewer directions than filters are asked for.
    """
    means, deviations = channel_statistics(images)
    scale = np.array([deviation if deviation > 0 else 1.0 for deviation in deviations])
    most = filter_count((images - np.array(means)) / scale, PATCH)
    if most == 0:
        raise DataError("training needs images that differ; every pixel of these has the same colour")
    if options.whitening == "auto":
        return options.model_copy(update={"whitening": most})
    if options.whitening > most:
        raise RecipeError(
            f"model.whitening is at most {most} for these images, whose patches vary in {most // 2} directions; "
            f"got {options.whitening}; use --set model.whitening=auto"
        )
    return options
