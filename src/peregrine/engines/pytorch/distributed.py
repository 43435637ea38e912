"""Several processes that train one model together, one per GPU or share of a CPU, started by torchrun.

Every rank sees its own part of each batch, and all take the same steps. What one process decides by a clock, a signal
or a probe is agreed on here, so that the training loop reads the same for one process and for many.
"""

import contextlib
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from peregrine import host
from peregrine.engines.pytorch.device import pick
from peregrine.errors import MachineError
from peregrine.signals import StopRequest

MEETING = timedelta(minutes=30)  # each rank reads its data before it meets the others, and one may have to download it
# A process that ends closes its connections and is missed at once. This is for machines that fall silent, and longer
# than the first rank writes checkpoints or a slow one judges its part of the validation images.
SILENCE = timedelta(minutes=5)


@dataclass(frozen=True)
class World:
    """The processes that train together. In one that trains alone every method hands back what it is given.

    Attributes:
        device: this rank's.
        run: the run's folder as the first rank, which alone writes it, names it.
        rank: number of this process among `ranks`, from 0.
    """

    device: torch.device
    run: str
    rank: int = 0
    ranks: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank writes."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace a contiguous tensor by the sum of all ranks' tensors; returns it."""
        if self.ranks > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def mean(self, number: float, weight: float = 1.0) -> float:
        """Of all ranks' numbers, so that all decide the same by it."""
        if self.ranks == 1:
            return number
        total, weights = self.add_up(torch.tensor([number * weight, weight], dtype=torch.float64)).tolist()
        return float(total / weights)

    def largest(self, number: int) -> int:
        """Of all ranks' numbers."""
        if self.ranks == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return int(found)

    def from_first(self, text: str) -> str:
        """The first rank's text."""
        texts = [text]
        if self.ranks > 1:
            dist.broadcast_object_list(texts, src=0, group=self.group)
        return texts[0]

    def joined(self, array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """All ranks' arrays one after the other, in the order of ranks."""
        if self.ranks == 1:
            return array
        arrays = [array] * self.ranks
        dist.all_gather_object(arrays, array, group=self.group)
        return np.concatenate(arrays)

    def part(self, count: int) -> slice:
        """This rank's of `count` things that are shared out evenly."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


@contextlib.contextmanager
def meeting(run: Path | None, stop: StopRequest) -> Iterator[World]:
    """Meet the other processes that torchrun started, if it did.

    Args:
        run: the folder that this process writes to; None before there is one.
        stop: is told when the block ends by an error.

    Raises:
        MissingDevice: there are fewer GPUs than processes.
        MachineError: another process ended or fell silent.
    """
    device, started = pick(), host.torchrun()
    mine = str(run or "")
    if started is None or started.ranks == 1:
        yield World(device, mine)
        return
    path = "PATH" if started.rank and run else mine  # until the first rank has told it
    group = None
    try:
        # Numbers that the host has travel by gloo, which notices a rank that is gone; NCCL is for what lies on GPUs.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store, rank, ranks = next(rendezvous("env://", timeout=MEETING))
        store = PrefixStore(_new_name(store, rank, ranks), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=MEETING)
        group = dist.new_group(timeout=SILENCE)
        path = World(device, path, rank, ranks, group).from_first(mine)
        yield World(device, path, rank, ranks, group)
    except BaseException as error:
        stop.ends_anyway = True
        if group is not None:
            group.abort()  # NCCL would wait for what is pending, and who is gone never does its part of it
        if not _is_loss(error):
            raise
        way_on = f" with --resume --run {path}" if path else ""
        raise MachineError(f"a worker of this run is gone; start all of them again{way_on}") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # or gloo keeps the process from ending


def _new_name(store: Store, rank: int, ranks: int) -> str:
    """A name that all ranks have for this meeting, and that no earlier one had.

    torchrun's store outlives the processes that it starts again, and gives a rank that comes early the addresses of
    those that are gone. So nothing is read here that was not written for this very process.

    Raises:
        MachineError: not all came.
    """
    mine = f"peregrine/{uuid.uuid4()}"
    store.set(f"peregrine/hello/{rank}", mine)
    if rank:
        name: str = store.get(f"{mine}/welcome").decode()  # waits
        store.set(f"{name}/{rank}", "here")
        return name
    others = range(1, ranks)
    deadline = time.monotonic() + MEETING.total_seconds()
    while not store.check([f"{mine}/{other}" for other in others]):
        for other in others:
            if store.check([f"peregrine/hello/{other}"]):
                store.set(f"{store.get(f'peregrine/hello/{other}').decode()}/welcome", mine)
        if time.monotonic() > deadline:
            raise MachineError(
                f"{ranks} workers were to meet, and not all came within {MEETING}; start all of them again"
            )
        time.sleep(0.05)
    return mine


def _is_loss(error: BaseException) -> bool:
    """Whether an error is about another rank; gloo's errors have no class of their own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Parallel:
    """Calls a network for training steps, and lets the ranks average its gradients during the backward pass.

    The weights that are trained may change between steps: they are counted when DistributedDataParallel is made, so a
    new one is made for others.
    """

    def __init__(self, network: nn.Module, world: World) -> None:
        self._network = network
        self._world = world
        self._trained: list[bool] = []
        self._wrapped = network

    def __call__(self, images: Tensor) -> Tensor:
        """Float `(N, 3, H, W)` to logits `(N, C)`."""
        if self._world.ranks > 1:
            trained = [weight.requires_grad for weight in self._network.parameters()]
            if trained != self._trained:
                self._trained, self._wrapped = trained, _wrapped(self._network, self._world)
        logits: Tensor = self._wrapped(images)
        return logits


def _wrapped(network: nn.Module, world: World) -> nn.Module:
    with warnings.catch_warnings():
        # PyTorch 2.13 wants another name, which 2.10 does not know. The buffers are running statistics, and `norms`
        # keeps them alike.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(network, process_group=world.group, broadcast_buffers=False)


class Pulse:
    """When the ranks of a run talk to each other between two steps: at the same step, about every `every_s` seconds.

    A process that trains alone may act before every step.
    """

    def __init__(self, world: World, every_s: float) -> None:
        self._world = world
        self._every_s = every_s
        self._steps = 0  # since the last time
        self._pause = 0  # steps until the next
        self._since = time.monotonic()

    def due(self) -> bool:
        """Whether to talk now; asked once before each step."""
        if self._world.ranks == 1:
            return True
        if self._steps < self._pause:
            self._steps += 1
            return False
        per_second = self._steps / (time.monotonic() - self._since)
        # Clocks differ: the first rank's counts.
        self._pause = self._world.largest(int(per_second * self._every_s) if self._world.is_first else 0)
        self._steps, self._since = 1, time.monotonic()
        return True
