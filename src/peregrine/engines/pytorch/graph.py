"""The model around a network: what is trained, checkpointed, deployed, run by `runtimes/torch.py` and exported.

One safetensors file holds it, and is both the checkpoint of a run and the ancestor of its exports:
    normalise.mean, normalise.std    float32 (3,), of the training pixels, in 0..255
    temperature                      float32 ()
    network.…                        the network's own
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from peregrine import catalog, files
from peregrine.artifact import Artifact
from peregrine.engines.pytorch.models.base import Network
from peregrine.engines.pytorch.record import to_metadata
from peregrine.engines.record import Record
from peregrine.errors import DamagedFile
from peregrine.recipe import ModelChoice
from peregrine.validation import validate


class Normalise(nn.Module):
    """Float pixels `(N, 3, H, W)` in 0..255 to mean 0 and standard deviation 1 per channel.

    Args:
        mean, std: float32 `(3,)`, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def by(cls, mean: Sequence[float], std: Sequence[float]) -> Self:
        """By mean and standard deviation per channel, in 0..255; a channel without any contrast is only centred."""
        return cls(torch.tensor(mean), torch.tensor([deviation if deviation > 0 else 1.0 for deviation in std]))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]


class Classifier(nn.Module):
    """uint8 images `(N, H, W, 3)` to float32 probabilities `(N, C)`.

    cast -> permute -> normalise -> network -> logits -> divide by the temperature -> softmax; the cast comes first,
    because some parsers of exported graphs take no other operation on uint8.
    """

    temperature: Tensor

    def __init__(self, normalise: Normalise, network: Network) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        self.register_buffer("temperature", torch.ones(()))

    def logits(self, images: Tensor) -> Tensor:
        """uint8 `(N, H, W, 3)` to float32 `(N, C)`, before temperature and softmax."""
        logits: Tensor = self.network(self.normalise(images.float().permute(0, 3, 1, 2)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return (self.logits(images) / self.temperature).softmax(1)

    def folded(self) -> Self:
        """A model that gives the same answers in eval mode with fewer operations; may share weights with this one."""
        folded = type(self)(self.normalise, self.network.folded())
        folded.temperature = self.temperature
        return folded.eval()


def build_classifier(model: ModelChoice, image_size: int, class_count: int, seed: int = 0) -> Classifier:
    """A model with a fresh network, channels last, on the CPU.

    Args:
        model: resolved.
        seed: decides the first weights; the process's own generator stays as it was.

    Raises:
        RecipeError: an option of the network is unknown or breaks its rule.
    """
    module = network_module(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = module.build(network_options(model), image_size, class_count)
    normalise = Normalise(torch.zeros(3), torch.ones(3))
    return Classifier(normalise, network).to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


def network_module(model: ModelChoice) -> Any:
    """The file of a network, see `models/__init__.py`."""
    return catalog.load("model", f"pytorch/{model.name}")


def network_options(model: ModelChoice) -> Any:
    """The checked `Options` of a network.

    Raises:
        RecipeError: a key of `[model]` is unknown or breaks its rule.
    """
    return validate(network_module(model).Options, model.options, "[model]")


def save_weights(classifier: Classifier, path: Path, record: Record | None = None) -> None:
    """Write everything that `load_weights` needs, atomically; with what the file tells about itself, if anything."""
    files.write_bytes(path, to_bytes(classifier.state_dict(), record))


def to_bytes(tensors: Mapping[str, Tensor], record: Record | None = None) -> bytes:
    """Tensors of any memory format and device as the content of a safetensors file."""
    metadata = to_metadata(record) if record else None
    content: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    return content


def load_weights(classifier: Classifier, path: Path) -> None:
    """Fill a model from a file of `save_weights`; memory formats and device stay.

    Raises:
        DamagedFile: the file is not of this model.
    """
    with damaged(path):
        classifier.load_state_dict(load_file(path))


def open_classifier(artifact: Artifact) -> Classifier:
    """The model of a `torch` Artifact, in eval mode, on the CPU."""
    manifest = artifact.manifest
    model = ModelChoice.model_validate(manifest.model)
    classifier = build_classifier(model, manifest.preprocess.size, len(manifest.class_names))
    load_weights(classifier, artifact.model_path)
    return classifier.eval()


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Explain tensors that cannot be read or do not fit."""
    try:
        yield
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(f"{path} does not hold this model's weights ({first}); restore it or train again") from error
