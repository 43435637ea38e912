"""The network's part of training steps, compiled by torch.compile where that is asked for or measured to be faster."""

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from peregrine.engines.pytorch.distributed import Parallel, World
from peregrine.engines.pytorch.graph import Classifier
from peregrine.engines.pytorch.models.base import Network
from peregrine.engines.pytorch.pipeline import Batches
from peregrine.engines.pytorch.precision import Precision, practise, race
from peregrine.errors import MachineError, MissingDependency, PeregrineError, RecipeError

GAIN = 0.9  # compiling costs half a minute and more: compiled passes have to take less than this share of the time
PASSES = 3  # before steps are timed: the first compiles, and CUDA graphs warm up once more before they are recorded
_NO_COMPILER = ("InvalidCxxCompiler", "TritonMissing")  # PyTorch's errors
logger = logging.getLogger("peregrine")


class Compiled:
    """Calls a network for training steps, compiled for one kind of step after the other; on a GPU as a CUDA graph.

    Kinds differ in the size of images and in the weights that are trained. The steps of a kind come in one piece, so
    what was compiled for the kind before is dropped. The network itself, with all its names, stays as it is.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._forward: Callable[[Tensor], Tensor] = network
        self._kind: object = None

    def __call__(self, images: Tensor) -> Tensor:
        """Float `(N, 3, H, W)` to logits `(N, C)`."""
        return self._forward(images)

    def fits(self, images: Tensor) -> bool:
        """Whether steps with such images are what it was compiled for last."""
        return self._kind == _kind(self._network, images)

    def compile(self, images: Tensor, precision: Precision) -> None:
        """Compile for steps with such images; nothing but the time it takes is left of the passes that this needs.

        Args:
            images: normalised, float32 `(B, 3, H, W)`.

        Raises:
            MissingDependency: there is no C++ compiler, or on a GPU no Triton.
            MachineError: compiling failed otherwise.
        """
        self._network.train()
        with _failure_explained(), _put_back(self._network, images.device):
            torch.compiler.reset()
            mode = "reduce-overhead" if images.device.type == "cuda" else "default"
            self._forward = torch.compile(self._network, dynamic=False, mode=mode)
            for _ in range(PASSES):
                practise(self._network, self._forward, images, precision)
        self._kind = _kind(self._network, images)


def choose(
    wanted: Literal["auto", "on", "off"], classifier: Classifier, batches: Batches, precision: Precision, world: World
) -> bool:
    """Settle whether the network of a run is compiled; `auto` lets a short race decide, on a single GPU.

    Not asked on CPUs: compiled, airbench94's network took 1.15 to 1.2 times as long on two cores (PyTorch 2.13, Zen 4).
    Nor of several ranks, whose norms talk to each other in the middle of a pass.
    """
    if wanted != "auto" or world.device.type == "cpu" or world.ranks > 1:
        return wanted == "on"
    network, images = classifier.network, classifier.normalise(batches.usual())
    compiled = Compiled(network)
    try:
        compiled.compile(images, precision)
    except PeregrineError as error:
        logger.info("not compiled: %s", error)
        return False
    runners = {
        name: functools.partial(practise, network, forward, images, precision)
        for name, forward in (("eager", network), ("compiled", compiled))
    }
    with _put_back(network, images.device):
        seconds = race(runners, images.device)
    logger.info("a step takes %.4f s, compiled %.4f s", seconds["eager"], seconds["compiled"])
    return seconds["compiled"] < GAIN * seconds["eager"]


def caller(network: Network, compiled: bool, world: World) -> Parallel | Compiled:
    """What calls the network for training steps.

    Raises:
        RecipeError: it is to be compiled, and there are several ranks.
    """
    if not compiled:
        return Parallel(network, world)
    if world.ranks > 1:
        raise RecipeError(
            f"compile='on' is for one worker, which has nobody to talk to in the middle of a step; got {world.ranks}; "
            "start one, or use --set compile=off"
        )
    return Compiled(network)


def _kind(network: nn.Module, images: Tensor) -> object:
    return images.shape, [weight.requires_grad for weight in network.parameters()]


@contextlib.contextmanager
def _put_back(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Undo what passes in the block change: running statistics, and the generators of random numbers."""
    kept = [buffer.clone() for buffer in network.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)


@contextlib.contextmanager
def _failure_explained() -> Iterator[None]:
    """Turn PyTorch's errors into one line, and do without its warnings about itself.

    Raises:
        MissingDependency, MachineError: see `Compiled.compile`.
    """
    from torch._dynamo.exc import TorchDynamoException  # here: two seconds that only compiling takes

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except TorchDynamoException as error:
        reason = getattr(error, "inner_exception", error)
        if type(reason).__name__ in _NO_COMPILER:
            raise MissingDependency(
                "torch.compile needs a C++ compiler (apt install g++, or name yours in CXX) and on GPUs Triton (pip "
                "install triton); install what is missing, or use --set compile=off"
            ) from error
        line = str(reason).strip().partition("\n")[0]
        raise MachineError(f"torch.compile failed ({line}); use --set compile=off") from error
