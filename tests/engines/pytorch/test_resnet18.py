"""The network against what torchvision publishes of its own."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from torch import nn

from peregrine.engines.pytorch.graph import build_classifier
from peregrine.engines.pytorch.models.base import IMAGENET
from peregrine.engines.pytorch.models.resnet18 import Options, ResNet18
from peregrine.recipe import ModelChoice

pytestmark = pytest.mark.torch


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's state dict, in its order, but for the counts of batches."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
    shapes |= {f"bn1.{name}": (64,) for name in norm}
    inside = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            here = f"layer{layer}.{block}"
            shapes[f"{here}.conv1.weight"] = (width, inside, 3, 3)
            shapes |= {f"{here}.bn1.{name}": (width,) for name in norm}
            shapes[f"{here}.conv2.weight"] = (width, width, 3, 3)
            shapes |= {f"{here}.bn2.{name}": (width,) for name in norm}
            if layer > 1 and block == 0:
                shapes[f"{here}.downsample.0.weight"] = (width, inside, 1, 1)
                shapes |= {f"{here}.downsample.1.{name}": (width,) for name in norm}
            inside = width
    return {**shapes, "fc.weight": (1000, 512), "fc.bias": (1000,)}


def test_has_torchvisions_names_and_shapes() -> None:
    network = ResNet18(Options(), 1000)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items() if "num_batches" not in name}
    assert list(found.items()) == list(published().items())
    assert len(network.state_dict()) == 122
    assert sum(weight.numel() for weight in network.parameters()) == 11_689_512  # of ResNet18_Weights, "num_params"


def test_its_maps_have_the_papers_sizes() -> None:
    """Table 1 of the paper, at 224 pixels."""
    network = ResNet18(Options(), 10).eval()
    sizes = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, output, name=name: sizes.update({name: tuple(output.shape[1:])}))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 224, 224))
    assert sizes == {
        "conv1": (64, 112, 112),
        "bn1": (64, 112, 112),
        "layer1": (64, 56, 56),
        "layer2": (128, 28, 28),
        "layer3": (256, 14, 14),
        "layer4": (512, 7, 7),
        "fc": (10,),
    }


def test_the_small_stem_keeps_small_images_large() -> None:
    network = ResNet18(Options(stem="cifar"), 10).eval()
    assert tuple(network.conv1.weight.shape) == (64, 3, 3, 3)
    sizes = []
    for layer in (network.layer1, network.layer4):
        layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[2:])))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))
    assert sizes == [(32, 32), (4, 4)]


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize(("size", "classes"), [(1, 2), (8, 10), (37, 1000)])
def test_takes_any_size_and_any_number_of_classes(stem: str, size: int, classes: int) -> None:
    network = ResNet18(Options.model_validate({"stem": stem}), classes).train()
    logits = network(torch.randn(3, 3, size, size))
    assert logits.shape == (3, classes)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_folding_changes_no_answer(stem: str) -> None:
    model = build_classifier(ModelChoice.model_validate({"name": "resnet18", "stem": stem}), 24, 5)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), np.uint8))
    model.normalise.mean.fill_(128)
    model.normalise.std.fill_(70)
    with torch.no_grad():
        model.train()(images)
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.2, 0.2)
    model.eval()
    with torch.inference_mode():
        folded = model.folded()
        torch.testing.assert_close(folded(images), model(images), atol=1e-5, rtol=0)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_pixels_are_those_that_the_weights_know() -> None:
    """Images 0..1 with torchvision's mean and deviation."""
    assert ResNet18(Options(pixels="imagenet"), 2).standard() == IMAGENET
    assert ResNet18(Options(pixels="data"), 2).standard() is None
    assert [round(value / 255, 3) for value in (*IMAGENET.mean, *IMAGENET.std)] == [
        0.485, 0.456, 0.406, 0.229, 0.224, 0.225
    ]  # fmt: skip
