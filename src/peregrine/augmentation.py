"""Random changes of the training images, as a table of a recipe; each engine applies them in its own way."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from peregrine.validation import Fraction, Table

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "crop-flip": {"flip": "random", "translate": 4},
    "gentle": {"flip": "random", "rotation": 15.0, "width_shift": 0.1, "height_shift": 0.1, "zoom": 0.1},
    # What scripts give to ImageDataGenerator, whose shear is in degrees: 0.2 is next to nothing.
    "classic": {
        "flip": "random",
        "rotation": 20.0,
        "width_shift": 0.2,
        "height_shift": 0.2,
        "shear": 0.2,
        "zoom": 0.2,
    },
}


class Augmentation(Table):
    """Random changes of the training images. Geometric ones are one resampling.

    Attributes:
        preset: a set of changes by name; keys that stand beside it win over the preset's.
        flip: horizontal; `alternating` flips a random half in epoch 0 and then every image in every second epoch
            (github.com/KellerJordan/cifar10-airbench), so that two epochs in a row see both sides of each.
        translate: random crop out of the image padded by this many reflected pixels: a shift by whole pixels.
        rotation: degrees, ±.
        width_shift, height_shift: fraction of the side, ±.
        shear: degrees, ±.
        zoom: fraction, ±, both axes on their own.
        fill: what lies outside after a geometric change.
        brightness: fraction of the full range that is added, ±.
        contrast: fraction by which the distance of every pixel from its channel's mean changes, ±.
        cutout: side of a square in pixels, somewhere over the image, that becomes the training images' mean colour
            (DeVries and Taylor 2017).
        mixup: α of the Beta distribution of the share in which an image is blended with another (Zhang et al. 2018).
        cutmix: the same of the area that a box out of another image takes (Yun et al. 2019). With both, each image gets
            one of the two.
    """

    preset: Literal["none", "crop-flip", "gentle", "classic"] = "none"
    flip: Literal["none", "random", "alternating"] = "none"
    translate: Annotated[int, Field(ge=0)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    width_shift: Fraction = 0.0
    height_shift: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    zoom: Fraction = 0.0
    fill: Literal["nearest", "reflect", "constant"] = "nearest"
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    cutout: Annotated[int, Field(ge=0)] = 0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {**PRESETS.get(str(content.get("preset")), {}), **content}
