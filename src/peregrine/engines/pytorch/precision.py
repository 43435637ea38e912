"""The precision of training steps: fp32, or autocast to bf16 or fp16 over fp32 weights where that is faster."""

import contextlib
import copy
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from peregrine import host
from peregrine.engines.pytorch.device import synchronise
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.graph import Classifier

Precision = Literal["fp32", "bf16", "fp16"]
TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RACED_BATCH = 128  # images
TURNS = 8  # on a busy machine the shortest of two is still a matter of luck
GAIN = 0.9  # fewer digits have to take less than this share of the time of more
_Name = TypeVar("_Name", bound=str)
logger = logging.getLogger("peregrine")


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The block in which a forward pass runs in `precision`."""
    return torch.autocast(device.type, TYPES[precision], enabled=precision != "fp32")


def gradient_scaler(precision: Precision, device: torch.device) -> GradScaler:
    """Keeps gradients within the range of fp16, and leaves out the steps where it failed; idle in other precisions."""
    return GradScaler(device.type, enabled=precision == "fp16")


def choose(wanted: Precision | Literal["auto"], classifier: Classifier, images: Tensor, world: World) -> Precision:
    """Settle the precision of a run; `auto` takes what the hardware has and a short race shows to be faster.

    Args:
        images: a batch as the steps will see it, float32 `(B, 3, H, W)` in 0..255, on the model's device.
        world: the ranks, which settle on one precision.
    """
    fast = _in_hardware(images.device)
    if wanted != "auto":
        if wanted not in fast:
            logger.warning(
                "this machine has no %s in hardware; precision=%s may be many times slower than fp32", wanted, wanted
            )
        return wanted
    contenders = [precision for precision in TYPES if world.mean(float(precision in fast)) == 1]
    if len(contenders) == 1:
        return contenders[0]
    seconds = {name: world.mean(found) for name, found in _race(contenders, classifier, images).items()}
    logger.info("a step takes %s", ", ".join(f"{found:.4f} s in {name}" for name, found in seconds.items()))
    best = contenders[0]
    for precision in contenders[1:]:
        if seconds[precision] < GAIN * seconds[best]:
            best = precision
    return best


def _in_hardware(device: torch.device) -> list[Precision]:
    """What the device computes at full speed, most digits first.

    fp16 has a smaller range than bf16 and is for GPUs that have no bf16.
    """
    if device.type == "cpu":
        return ["fp32", "bf16"] if host.has_bf16() else ["fp32"]
    return ["fp32", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]


def _race(contenders: Sequence[Precision], classifier: Classifier, images: Tensor) -> dict[Precision, float]:
    """Shortest time of a forward and backward pass in each; the model is left as it was."""
    network = copy.deepcopy(classifier.network).train()
    normalised = classifier.normalise(images)
    runners = {name: functools.partial(practise, network, network, normalised, name) for name in contenders}
    return race(runners, images.device)


def practise(network: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor, precision: Precision) -> None:
    """A forward and backward pass like those of a training step; the gradients are dropped.

    Args:
        forward: what calls the network.
        images: normalised, float32 `(B, 3, H, W)`.
    """
    with autocast(precision, images.device):
        logits = forward(images)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    torch.autograd.backward(F.cross_entropy(logits.float(), labels))
    network.zero_grad()


def race(runners: Mapping[_Name, Callable[[], None]], device: torch.device) -> dict[_Name, float]:
    """Shortest time of each in seconds, in turns; the first turn warms up."""
    times: dict[_Name, list[float]] = {name: [] for name in runners}
    for _ in range(TURNS):
        for name, run in runners.items():
            began = time.perf_counter()
            run()
            synchronise(device)
            times[name].append(time.perf_counter() - began)
    return {name: min(found[1:]) for name, found in times.items()}
