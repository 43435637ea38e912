"""The whole state of a training run, and its way to disk and back, exact to the bit.

A resume state holds `training.safetensors`:
    model.<name>               weights and statistics of the `Classifier`
    optimizer.<weight>.<name>  what an optimiser keeps of a weight
    epoch.losses, epoch.hits   of the steps done in the epoch at hand
and, in `state.json`, the other fields of `State`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from peregrine.engines import resume
from peregrine.engines.history import History
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.graph import Classifier, damaged, to_bytes
from peregrine.engines.pytorch.optim import optimizers
from peregrine.engines.pytorch.pipeline import Batches
from peregrine.engines.pytorch.precision import TYPES, Precision, gradient_scaler
from peregrine.errors import UsageError
from peregrine.recipe import Recipe

BEST = "best_model.safetensors"
LATEST = "latest_model.safetensors"
_TENSORS = "training.safetensors"


@dataclass
class State:
    """Everything that the next step depends on, and everything told of the steps before it.

    Attributes:
        scaler: of the gradients, where the precision needs it.
        precision: of the steps, decided when the run began.
        log: name of the run's CSV file, likewise.
        compiled: whether the network is compiled for the steps, likewise.
        losses, hits: mean loss float32 and right answers int64 of each step of the epoch at hand, `(steps,)`, kept on
            the device, so that no step waits for the host.
        epoch: finished epochs.
        step: steps done in the epoch at hand.
        seconds: time spent so far, by name; resumed parts included.
        epoch_seconds: training time when the epoch at hand began.
    """

    classifier: Classifier
    optimizers: list[Optimizer]
    scaler: GradScaler
    precision: Precision
    log: str
    history: History
    losses: Tensor
    hits: Tensor
    compiled: bool = False
    epoch: int = 0
    step: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    epoch_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """What is no tensor, as JSON holds it."""
        plain = ("precision", "log", "compiled", "epoch", "step", "seconds", "epoch_seconds")
        found = {name: getattr(self, name) for name in plain}
        return {"schema": 1, "history": self.history.to_list(), "scaler": self.scaler.state_dict(), **found}


def fresh_state(
    recipe: Recipe, classifier: Classifier, precision: Precision, batches: Batches, history: History, log: str = ""
) -> State:
    """The state of a model before the first step, on the model's device."""
    device = classifier.normalise.mean.device
    return State(
        classifier=classifier,
        optimizers=optimizers(classifier.network, recipe.optimizer, batches.size, TYPES[precision]),
        scaler=gradient_scaler(precision, device),
        precision=precision,
        log=log,
        history=history,
        losses=torch.zeros(batches.per_epoch, device=device),
        hits=torch.zeros(batches.per_epoch, dtype=torch.int64, device=device),
    )


def save_state(state: State, checkpoints: Path, steps: int) -> None:
    """Write a resume state after `steps` steps of the run, with the best checkpoint as it is now."""
    tensors = {f"model.{name}": tensor for name, tensor in state.classifier.state_dict().items()}
    for name, kept in _optimizer_state(state).items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in kept.items() if isinstance(value, Tensor)}
    tensors |= {"epoch.losses": state.losses, "epoch.hits": state.hits}
    with resume.saving(checkpoints / "resume", steps, state.to_dict(), linked=checkpoints / BEST) as folder:
        (folder / _TENSORS).write_bytes(to_bytes(tensors))


def check_same_state(saved: resume.ResumeState | None, world: World) -> None:
    """Make sure that all ranks go on from one state.

    Raises:
        UsageError: this one's is not the first rank's.
    """
    mine = saved.folder.name.lstrip("0") if saved else "none"
    first = world.from_first(mine)
    if mine != first:
        raise UsageError(
            "all workers of a run go on from one resume state, so the run has to lie where each can read it; worker "
            f"{world.rank} found {f'step {mine}' if saved else 'none'}, worker 0 {first}"
        )


def load_state(state: State, saved: resume.ResumeState, checkpoints: Path) -> None:
    """Bring a freshly built `state` to where `saved` was, and the best checkpoint on disk with it.

    Tensors are filled in place: their memory formats decide the order of sums, and so the last bit.

    Raises:
        DamagedFile: the saved state is of another model.
    """
    path = saved.folder / _TENSORS
    with damaged(path):
        tensors = load_file(path)
        state.classifier.load_state_dict(_below("model.", tensors))
        state.losses.copy_(tensors["epoch.losses"])
        state.hits.copy_(tensors["epoch.hits"])
        weights = dict(state.classifier.named_parameters())
        kept = _optimizer_state(state)
        for name, value in _below("optimizer.", tensors).items():
            weight, _, key = name.rpartition(".")
            same_shape = value.shape == weights[weight].shape
            kept[weight][key] = torch.empty_like(weights[weight]).copy_(value) if same_shape else value
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(saved.content["scaler"])
    for name in ("compiled", "epoch", "step", "seconds", "epoch_seconds"):
        setattr(state, name, saved.content[name])
    saved.restore(checkpoints / BEST)


def _optimizer_state(state: State) -> dict[str, dict[str, Any]]:
    """What the optimisers keep of each weight, by the weight's name; writing to it writes to them."""
    names = {weight: name for name, weight in state.classifier.named_parameters()}
    return {
        names[weight]: optimizer.state[weight]
        for optimizer in state.optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
