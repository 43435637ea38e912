"""Optimisers: Keras' own, and Muon, which Keras 3.15 has for matrices alone: it hands convolutions to AdamW."""

import math
from typing import Any

from peregrine import recipe
from peregrine.engines.muon import ITERATIONS, NEWTON_SCHULZ
from peregrine.engines.tensorflow.library import keras, tf


def optimizer(choice: recipe.Optimizer, batch_size: int, product: str) -> Any:
    """The optimiser of a recipe, not built yet.

    Args:
        batch_size: images in every full step. The gradients are of the mean loss over a step's images.
        product: dtype of Muon's matrix products.
    """
    match choice.name:
        case "adam":
            return keras.optimizers.Adam(choice.learning_rate)
        case "adamw":
            return keras.optimizers.AdamW(choice.learning_rate, weight_decay=choice.weight_decay)
        case "sgd":
            return keras.optimizers.SGD(choice.learning_rate, choice.momentum, nesterov=choice.momentum > 0)
    return Muon(
        choice.learning_rate,
        choice.momentum,
        # What is per image in the recipe grows with the mean loss's batch.
        bias_rate=choice.bias_learning_rate * batch_size / choice.learning_rate,
        head_rate=choice.head_learning_rate * batch_size / choice.learning_rate,
        sgd_momentum=choice.sgd_momentum,
        weight_decay_per_step=choice.weight_decay * batch_size / choice.learning_rate,
        product=product,
    )


def set_share(made: Any, share: Any) -> None:
    """Tell the optimiser which share of a full batch the next step has, where its rates are per image."""
    if isinstance(made, Muon):
        made.share.assign(tf.cast(share, tf.float32))


def build(made: Any, weights: list[Any]) -> None:
    """Make the optimiser's variables; what has one axis, biases and norms, never decays."""
    if made.weight_decay:
        made.exclude_from_weight_decay([weight for weight in weights if len(weight.shape) < 2])
    made.build(weights)


@keras.saving.register_keras_serializable(package="peregrine")
class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras has no types
    """Nesterov momentum whose step is made orthogonal, for convolutions; SGD with Nesterov momentum for the rest.

    A kernel `(h, w, I, O)` counts as a matrix `(h w I, O)`. Before each step it is rescaled to norm √O: then a step of
    one rate turns the weights of every layer by the same angle, and needs no decay.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; rescaling and three iterations from airbench94_muon
    (github.com/KellerJordan/cifar10-airbench). One step equals PyTorch's in `engines/pytorch/optim.py`; a test holds
    them together.

    Attributes:
        share: of a full batch that the next step has: the rates of the other weights are per image. Not saved.

    Args:
        learning_rate, momentum: of the convolutions.
        bias_rate, head_rate: rates of weights with one axis and with two, in units of `learning_rate`.
        sgd_momentum: of those weights.
        weight_decay_per_step: share of those weights that a step takes away, likewise in units of `learning_rate`.
        product: dtype of the matrix products.
    """

    def __init__(
        self,
        learning_rate: float,
        momentum: float,
        *,
        bias_rate: float,
        head_rate: float,
        sgd_momentum: float,
        weight_decay_per_step: float,
        product: str,
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **settings)
        self._own: dict[str, Any] = {
            "momentum": momentum,
            "bias_rate": bias_rate,
            "head_rate": head_rate,
            "sgd_momentum": sgd_momentum,
            "weight_decay_per_step": weight_decay_per_step,
            "product": product,
        }

    def build(self, variables: list[Any]) -> None:
        """Make the momenta."""
        if not self.built:
            super().build(variables)
            self.share = tf.Variable(1.0, trainable=False)
            self._momenta = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one weight."""
        own = self._own
        if len(variable.shape) == 4:
            direction = self._nesterov(gradient, variable, own["momentum"])
            outputs = variable.shape[-1]
            update = orthogonalise(tf.reshape(direction, [-1, outputs]), tf.as_dtype(own["product"]))
            scaled = variable * (math.sqrt(outputs) / tf.norm(variable))
            self.assign(variable, scaled - learning_rate * tf.reshape(update, variable.shape))
            return
        rate = own["bias_rate"] if len(variable.shape) == 1 else own["head_rate"]
        # SGD multiplies the decay with the rate, on which it does not depend here.
        gradient = self.share * (gradient + own["weight_decay_per_step"] / rate * variable)
        self.assign_sub(variable, learning_rate * rate * self._nesterov(gradient, variable, own["sgd_momentum"]))

    def _nesterov(self, gradient: Any, variable: Any, momentum: float) -> Any:
        """The direction of a step. As in PyTorch, the momentum is one of gradients, not of steps."""
        average = self._momenta[self._get_variable_index(variable)]
        self.assign(average, average * momentum + gradient)
        return gradient + momentum * average

    def get_config(self) -> dict[str, Any]:
        """For the saved model."""
        return {**super().get_config(), **self._own}


def orthogonalise(matrix: Any, product: Any, iterations: int = ITERATIONS) -> Any:
    """Roughly the nearest matrix with orthonormal rows (or columns, where they are fewer): `(R, C)` to `(R, C)`."""
    a, b, c = NEWTON_SCHULZ
    x = tf.cast(matrix / (tf.norm(matrix) + 1e-7), product)
    tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(x) if tall else x
    for _ in range(iterations):
        gram = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    return tf.cast(tf.transpose(x) if tall else x, matrix.dtype)
