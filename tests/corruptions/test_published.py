"""The published strengths: complete, and taken by size."""

import inspect

import pytest

from peregrine.corruptions import CORRUPTIONS
from peregrine.corruptions.published import CIFAR, IMAGENET, TINY_IMAGENET, Settings, settings


@pytest.mark.parametrize("known", [CIFAR, TINY_IMAGENET, IMAGENET])
def test_five_strengths_for_every_argument(known: Settings) -> None:
    assert list(known.strengths) == list(CORRUPTIONS)
    for name, strengths in known.strengths.items():
        arguments = len(inspect.signature(CORRUPTIONS[name]).parameters) - 2  # the images, and the random numbers
        assert [len(strength) for strength in strengths] == [arguments] * 5


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (8, "CIFAR-10-C"), (32, "CIFAR-10-C"), (45, "CIFAR-10-C"), (46, "Tiny ImageNet-C"), (64, "Tiny ImageNet-C"),
        (119, "Tiny ImageNet-C"), (120, "ImageNet-C"), (224, "ImageNet-C"), (600, "ImageNet-C"),
    ],
)  # fmt: skip
def test_the_nearest_size_decides(size: int, name: str) -> None:
    assert settings(size).name == name
