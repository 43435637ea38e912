"""A network in one precision with its optimiser: compiled training steps, and compiled judging."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset
from peregrine.engines.tensorflow import norms
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.network import Normalisation, copy_weights, plain, trainable
from peregrine.engines.tensorflow.pipeline import Resident, TrainingBatches
from peregrine.recipe import Recipe

JUDGED_BATCH = 500  # validation images at once

Variables = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class TrainingData:
    """What all precisions of a run share.

    Attributes:
        class_weights: float32 `(C,)`, the weight of each class in the loss.
    """

    batches: TrainingBatches
    validation: Resident | None
    normalisation: Normalisation
    class_weights: npt.NDArray[np.float32]

    @classmethod
    def of(cls, recipe: Recipe, train: Dataset, validation: Dataset | None) -> "TrainingData":
        """Bring the data to the device and measure it."""
        return cls(
            TrainingBatches(train, recipe),
            Resident(validation) if validation is not None else None,
            Normalisation.of(train.images),
            class_weights(train, recipe),
        )


class Steps:
    """Trains and judges one network.

    What is judged and saved is a copy in float32, because that is what the ancestor computes in.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, precision: str) -> None:
        self._recipe = recipe
        self._data = data
        class_count = len(data.class_weights)
        self._model = trainable(recipe, class_count, data.normalisation, precision)
        self._copy = plain(recipe, class_count, data.normalisation)
        self._optimizer = keras.optimizers.Adam(recipe.optimizer.learning_rate)
        self._optimizer.build(self._model.trainable_variables)
        number = tf.TensorSpec([], tf.int32)
        order, rates = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        self._train = tf.function(self._train_graph, input_signature=[order, number, number, rates])
        self._judge = tf.function(self._judge_graph, input_signature=[])

    def compile(self, order: npt.NDArray[np.int32]) -> None:
        """Trace and optimise both graphs before time is taken, by a step that leaves only the norms' statistics."""
        before = self.read()
        norms.start_statistics(self._model, lambda: self.train(order, 0, 0, np.zeros(1, np.float32)))
        statistics = [weight.numpy() for weight in self._model.non_trainable_weights]
        self.write(before)
        for weight, value in zip(self._model.non_trainable_weights, statistics, strict=True):
            weight.assign(value)
        if self._data.validation is not None:
            self._judge.get_concrete_function()

    def train(
        self, order: npt.NDArray[np.int32], epoch: int, first: int, rates: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run several steps in one call, which saves a millisecond each.

        Args:
            order: the epoch's permutation of the images.
            epoch, first: the epoch, and the first of the steps within it; both counted from 0.
            rates: the learning rate of each step, `(n,)`.

        Returns:
            The mean loss and the number of right answers of each step, both float32 `(n,)`.
        """
        losses, correct = self._train(order, epoch, first, rates)
        return losses.numpy(), correct.numpy()

    def judge(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on validation in float32, without smoothing, weights or augmentation."""
        assert self._data.validation is not None
        self.model()  # brings the copy up to date
        loss, correct = self._judge()
        count = self._data.validation.count
        return float(loss) / count, float(correct) / count

    def model(self) -> Any:
        """The network as it is now, in float32 and with built-in layers alone: for checkpoints."""
        copy_weights(self._model, self._copy)
        return self._copy

    @property
    def _variables(self) -> list[Any]:
        """Everything that a step changes: weights, statistics, dropout's seeds, and the optimiser's."""
        return [*self._model.variables, *self._optimizer.variables]

    def read(self) -> Variables:
        """A copy of the whole state, in a fixed order."""
        return [variable.numpy() for variable in self._variables]

    def write(self, values: Variables) -> None:
        """Replace the whole state by what `read` gave."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def _train_graph(self, order: Any, epoch: Any, first: Any, rates: Any) -> tuple[Any, Any]:
        count = tf.size(rates)
        losses, correct = tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            self._optimizer.learning_rate.assign(rates[i])
            images, labels = self._data.batches.batch(order, epoch, first + i)
            loss, right = self._step(images, labels)
            losses, correct = losses.write(i, loss), correct.write(i, right)
        return losses.stack(), correct.stack()

    def _step(self, images: Any, labels: Any) -> tuple[Any, Any]:
        weights = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(images, training=True)
            losses = cross_entropy(logits, labels, self._recipe.label_smoothing)
            loss = tf.reduce_mean(losses * tf.gather(self._data.class_weights, labels))
        self._optimizer.apply(tape.gradient(loss, weights), weights)
        return loss, right_answers(logits, labels)

    def _judge_graph(self) -> tuple[Any, Any]:
        validation = self._data.validation
        assert validation is not None
        loss, correct = tf.constant(0.0), tf.constant(0.0)
        for start in tf.range(0, validation.count, JUDGED_BATCH):
            images, labels = validation.batch(tf.range(start, tf.minimum(start + JUDGED_BATCH, validation.count)))
            logits = self._copy(tf.cast(images, tf.float32), training=False)
            loss += tf.reduce_sum(cross_entropy(logits, labels, 0.0))
            correct += right_answers(logits, labels)
        return loss, correct


def class_weights(train: Dataset, recipe: Recipe) -> npt.NDArray[np.float32]:
    """The weight of each class in the loss, float32 `(C,)`; over the training images, they average to 1."""
    counts = train.counts
    if recipe.class_weights == "none":
        return np.ones(len(counts), np.float32)
    return (len(train) / (len(counts) * counts)).astype(np.float32)


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Of each image, `(B,)`; `smoothing` of the target is spread evenly over all classes (Szegedy et al. 2016)."""
    class_count = logits.shape[-1]
    targets = tf.one_hot(labels, class_count) * (1 - smoothing) + smoothing / class_count
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def right_answers(logits: Any, labels: Any) -> Any:
    """How many, as float32."""
    answers = tf.argmax(logits, axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(answers == labels, tf.float32))
