"""From a model's file to a whole Keras model: normalisation before it, logits or probabilities after it."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peregrine import catalog
from peregrine.dataset import Images
from peregrine.engines.tensorflow.fusing import fuse
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.models.base import ALWAYS, Phase
from peregrine.recipe import Recipe
from peregrine.validation import validate

_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}


@dataclass(frozen=True)
class Normalisation:
    """`pixel * scale + offset`, per channel of RGB pixels 0..255; constants of the graph."""

    scale: list[float]
    offset: list[float]

    @classmethod
    def by(cls, means: Sequence[float], deviations: Sequence[float]) -> "Normalisation":
        """To mean 0 and standard deviation 1 over all pixels; a channel without any contrast is only centred."""
        scale = [1 / deviation if deviation > 0 else 1.0 for deviation in deviations]
        return cls(scale, [-mean * factor for mean, factor in zip(means, scale, strict=True)])

    @classmethod
    def none(cls) -> "Normalisation":
        """For networks that want pixels."""
        return cls([1.0] * 3, [0.0] * 3)

    @classmethod
    def from_model(cls, model: Any) -> "Normalisation":
        """Read back from a model that was built here."""
        layer = model.get_layer("normalise")
        return cls(list(layer.scale), list(layer.offset))


def options(recipe: Recipe) -> Any:
    """The checked `Options` of the recipe's model.

    Raises:
        RecipeError: a key of `[model]` is unknown or breaks its rule.
    """
    return validate(_module(recipe).Options, recipe.model.options, f"recipe {recipe.name}, [model]")


def smallest_input(recipe: Recipe) -> int:
    """The smallest side of an image that the recipe's model can take, in pixels."""
    side: int = _module(recipe).smallest_input(options(recipe))
    return side


def takes_any_size(recipe: Recipe) -> bool:
    """Whether the recipe's model takes images of any size, and so can train on smaller ones first."""
    return getattr(_module(recipe), "ANY_SIZE", False)


def resolved(recipe: Recipe, sample: Images) -> Any:
    """The checked `Options` of the recipe's model, with what `auto` comes to.

    Args:
        sample: some training images, uint8 `(n, H, W, 3)`.

    Raises:
        RecipeError: an option cannot be had with these images.
    """
    found = options(recipe)
    resolve = getattr(_module(recipe), "resolve", None)
    return resolve(found, sample) if resolve else found


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """What of the recipe's model learns when."""
    tell = getattr(_module(recipe), "phases", None)
    return tell(options(recipe)) if tell else ALWAYS


def normalisation(recipe: Recipe, means: Sequence[float], deviations: Sequence[float]) -> Normalisation:
    """What the recipe's model wants done to pixels before it sees them.

    Args:
        means, deviations: of each channel of the training images, in 0..255.
    """
    if getattr(_module(recipe), "TAKES_PIXELS", False):
        return Normalisation.none()
    return Normalisation.by(means, deviations)


def plain(recipe: Recipe, class_count: int, normalisation: Normalisation) -> Any:
    """The model of the checkpoints, in float32: pixels 0..255 `(N, H, W, 3)` to logits `(N, C)`.

    The recipe's seed decides the first weights.
    """
    with _building(recipe.seed, _POLICIES["fp32"]):
        return _model(recipe, class_count, normalisation, recipe.input.size)


def trainable(
    recipe: Recipe, class_count: int, normalisation: Normalisation, precision: str, sample: Images | None = None
) -> Any:
    """The same model for the steps: its inner layers in `precision`, its norms and activations fused.

    The recipe's seed decides the dropout too, the same in every precision.

    Args:
        sample: some training images, uint8 `(n, H, W, 3)`, for networks that take something from them; None where the
            weights come from elsewhere.
    """
    side = None if recipe.input.growth else recipe.input.size
    with _building(recipe.seed, _POLICIES[precision]):
        model = _model(recipe, class_count, normalisation, side)
        fused = fuse(model)
    fit = getattr(_module(recipe), "fit", None)
    if fit and sample is not None:
        fit(options(recipe), model, sample)
    copy_weights(model, fused)
    return fused


def deployable(recipe: Recipe, class_count: int, trained: Any, temperature: float) -> Any:
    """The ancestor's graph, see `around`, in float32 with the weights of `trained`."""
    normalisation = Normalisation.from_model(trained)
    with _building(recipe.seed, _POLICIES["fp32"]):
        network = _network(recipe, class_count)
        model = around(network, recipe.model.name, recipe.input.size, normalisation, temperature)
    copy_weights(trained, model)
    return model


def around(
    network: Callable[[Any], Any], name: str, side: int | str, normalisation: Normalisation, temperature: float
) -> Any:
    """What every Artifact of Keras is: uint8 `images` to float32 `probabilities`, with a network in the middle.

    The layer `logits` gives what is divided by the temperature.

    Args:
        network: normalised symbolic pixels `(N, H, W, 3)` to logits `(N, C)`.
        name: of the model.
        side: of the images, in pixels.
    """
    images = keras.Input(_shape(side), dtype="uint8", name="images")
    logits = _logits(network, images, normalisation)
    tempered = keras.layers.Rescaling(1 / temperature, name="temperature")(logits)
    probabilities = keras.layers.Softmax(name="probabilities")(tempered)
    return keras.Model(images, probabilities, name=name)


def copy_weights(source: Any, target: Any) -> None:
    """Give `target` the weights and statistics of `source`, which has the same layers."""
    for written, read in zip(target.weights, source.weights, strict=True):
        written.assign(read)


def compiled(deployed: Any, layer: str) -> Any:
    """A function from uint8 images `(N, H, W, 3)` to the output of a layer, traced once for every N."""
    part = keras.Model(deployed.inputs, deployed.get_layer(layer).output)
    signature = [tf.TensorSpec([None, *deployed.input_shape[1:]], tf.uint8)]
    return tf.function(lambda images: part(images, training=False), input_signature=signature)


def _model(recipe: Recipe, class_count: int, normalisation: Normalisation, side: int | str | None) -> Any:
    images = keras.Input(_shape(side), dtype="float32", name="images")
    logits = _logits(_network(recipe, class_count), images, normalisation)
    return keras.Model(images, logits, name=recipe.model.name)


def _network(recipe: Recipe, class_count: int) -> Callable[[Any], Any]:
    return lambda images: _module(recipe).build(options(recipe), images, class_count)


def _logits(network: Callable[[Any], Any], images: Any, normalisation: Normalisation) -> Any:
    # Rescaling casts before it multiplies, so it takes uint8 as well; float32 whatever the policy.
    layer = keras.layers.Rescaling(normalisation.scale, normalisation.offset, dtype="float32", name="normalise")
    return keras.layers.Activation("linear", dtype="float32", name="logits")(network(layer(images)))


@contextlib.contextmanager
def _building(seed: int, policy: str) -> Iterator[None]:
    """Build layers under a dtype policy and a seed, and leave the process's own as they were.

    Keras draws the seeds of initialisers and dropout from Python's generator where a layer is given none.
    """
    before, state = keras.config.dtype_policy(), random.getstate()
    random.seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
        random.setstate(state)


def _shape(side: int | str | None) -> tuple[int | None, int | None, int]:
    assert not isinstance(side, str)  # `resolve` has filled it in
    return side, side, 3


def _module(recipe: Recipe) -> Any:
    return catalog.load("model", f"tensorflow/{recipe.model.name}")
