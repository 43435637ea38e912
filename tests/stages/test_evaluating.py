"""Test-time augmentation of a real model, against the mean of logits written out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import making
import torch_ancestor
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.metrics import softmax
from peregrine.stages.evaluating import evaluate_part, predict_all, with_other_views
from peregrine.stages.target import Target
from peregrine.tta import least_certain

pytestmark = pytest.mark.torch
TEMPERATURE = 0.02  # answers so sharp that the views matter


def some_images(count: int) -> Dataset:
    pixels, labels = making.images(count, 12, seed=3), np.arange(count) % 3
    return Dataset(pixels, labels, np.arange(count).astype(str), torch_ancestor.CLASSES)


def reference(logits: Callable[[Any], Any], images: Any, tta: str) -> Any:
    """Mean logits over the views, as airbench94_muon makes them, of float images in NCHW."""

    def both_sides(pixels: Tensor) -> Tensor:
        sides = [side.permute(0, 2, 3, 1).to(torch.uint8).numpy() for side in (pixels, pixels.flip(3))]
        return torch.from_numpy(np.stack([logits(side) for side in sides])).mean(0)

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    straight = both_sides(pixels)
    if tta == "flip":
        return straight.numpy()
    padded = F.pad(pixels, (1, 1, 1, 1), "reflect")
    shifted = (both_sides(padded[:, :, :-2, :-2]) + both_sides(padded[:, :, 2:, 2:])) / 2
    return ((straight + shifted) / 2).numpy()


@pytest.mark.parametrize("tta", ["flip", "full"])
def test_as_the_mean_of_logits(tmp_path: Path, tta: str) -> None:
    artifact = torch_ancestor.write(tmp_path / "torch", temperature=TEMPERATURE)
    part = some_images(1100)  # more than are looked at at once
    with default_candidate(artifact).open() as runtime:
        expected = softmax(reference(runtime.logits, part.images, tta) / TEMPERATURE)
        plain = predict_all(runtime, part, "plain")
        every, none, some = (with_other_views(runtime, part, plain, tta, share) for share in (1.0, 0.0, 0.25))
    assert (expected.argmax(1) != plain.argmax(1)).mean() > 0.01
    np.testing.assert_allclose(every, expected, atol=1e-4)
    np.testing.assert_array_equal(none, plain)
    chosen = least_certain(plain, 0.25)
    others = np.setdiff1d(np.arange(len(part)), chosen)
    assert len(chosen) == 275
    np.testing.assert_array_equal(some[others], plain[others])
    np.testing.assert_allclose(some[chosen], every[chosen], atol=1e-5)


def test_the_figures_with_and_without(tmp_path: Path) -> None:
    artifact = torch_ancestor.write(tmp_path / "torch", temperature=TEMPERATURE)
    part = some_images(90)
    target = Target(artifact, None, whole_run=False)
    plain = evaluate_part(target, part, "test", None, record=False)
    full = evaluate_part(target, part, "test", None, record=False, tta="full", tta_share=0.5)
    assert (plain["tta"], "tta_share" in plain, "without_tta" in plain) == ("none", False, False)
    assert (full["tta"], full["tta_share"]) == ("full", 0.5)
    for key in ("accuracy", "accuracy_interval", "loss", "ece"):
        assert full["without_tta"][key] == plain[key]
    assert full["loss"] != plain["loss"]
    assert full["seconds"] > full["without_tta"]["seconds"] > 0
    topic = f"evaluation:test:{part.fingerprint[:12]}"
    learned = artifact.evidence()
    assert learned[topic]["loss"] == plain["loss"]
    assert learned[f"{topic}:tta-full-0.5"]["loss"] == full["loss"]
