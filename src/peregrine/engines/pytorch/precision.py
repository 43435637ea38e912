"""The precision of training steps: fp32, or bf16 autocast over fp32 weights where that is faster."""

import contextlib
import copy
import logging
import time
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine import host
from peregrine.engines.pytorch.device import synchronise
from peregrine.engines.pytorch.graph import Classifier

Precision = Literal["fp32", "bf16"]
TURNS = 8  # on a busy machine the shortest of two is still a matter of luck
GAIN = 0.9  # bf16 costs digits, so it has to take less than this share of fp32's time
logger = logging.getLogger("peregrine")


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The block in which a forward pass runs in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def choose(wanted: Literal["auto", "fp32", "bf16"], classifier: Classifier, images: Tensor) -> Precision:
    """Settle the precision of a run; `auto` takes bf16 where the hardware has it and a short race shows a gain.

    Args:
        images: a batch as the steps will see it, float32 `(B, 3, H, W)` in 0..255, on the model's device.
    """
    fast = _has_bf16(images.device)
    if wanted == "bf16" and not fast:
        logger.warning("this machine has no bf16 in hardware; precision=bf16 may be many times slower than fp32")
    if wanted != "auto":
        return wanted
    if not fast:
        return "fp32"
    seconds = _race(classifier, images)
    logger.info("a step takes %.3f s in fp32 and %.3f s in bf16", seconds["fp32"], seconds["bf16"])
    return "bf16" if seconds["bf16"] < GAIN * seconds["fp32"] else "fp32"


def _has_bf16(device: torch.device) -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else host.has_bf16()


def _race(classifier: Classifier, images: Tensor) -> dict[Precision, float]:
    """Shortest time of a forward and backward pass, in turns; the first turn warms up. The model is left as it was."""
    network = copy.deepcopy(classifier.network).train()
    normalised = classifier.normalise(images)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    times: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(TURNS):
        for precision, found in times.items():
            began = time.perf_counter()
            with autocast(precision, images.device):
                logits = network(normalised)
            torch.autograd.backward(F.cross_entropy(logits.float(), labels))
            synchronise(images.device)
            found.append(time.perf_counter() - began)
    return {precision: min(found[1:]) for precision, found in times.items()}
