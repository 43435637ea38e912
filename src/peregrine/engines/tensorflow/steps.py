"""A network in one precision with its optimiser: compiled training steps, and compiled judging."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset, Images, at_once
from peregrine.engines.events import Floats
from peregrine.engines.statistics import class_weights, sample
from peregrine.engines.tensorflow import network, norms, optim, strategy
from peregrine.engines.tensorflow.batches import Batches
from peregrine.engines.tensorflow.legs import Leg
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.models.base import Phase
from peregrine.engines.tensorflow.pipeline import Block, Source, colours
from peregrine.engines.tensorflow.starting import Start
from peregrine.recipe import Recipe

JUDGED_BATCH = 500  # validation images at once, if they are small

Variables = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class TrainingData:
    """What all precisions of a run share.

    Attributes:
        strategy: how the work is spread, see `strategy.choose`.
        batch_size: images in every step, except that the last of an epoch may have fewer.
        sample: a few thousand training images.
        class_weights: float32 `(C,)`, the weight of each class in the loss.
    """

    strategy: Any
    batch_size: int
    batches: Batches
    validation: Dataset | None
    normalisation: network.Normalisation
    sample: Images
    class_weights: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls, recipe: Recipe, train: Dataset, validation: Dataset | None, chosen: Any, source: Source
    ) -> "TrainingData":
        """Measure the data, whose training images the `source` has, for the `chosen` strategy."""
        means, deviations = colours(source, train)
        return cls(
            chosen,
            min(recipe.batch_size, len(train)),
            Batches(recipe, len(train), len(train.class_names), means),
            validation,
            network.normalisation(recipe, means, deviations),
            sample(train.images),
            class_weights(train, recipe),
        )


class Steps:
    """Trains and judges one network.

    What is judged and saved is a copy in float32, because that is what the ancestor computes in.

    Attributes:
        compiled: whether steps from now on are compiled as a whole, by XLA.

    Args:
        fresh: whether the network takes from the training images, or from its weights' file, what it starts with.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, precision: str, fresh: bool = True) -> None:
        self._recipe = recipe
        self._data = data
        self._strategy = data.strategy
        class_count = len(data.class_weights)
        start = data.sample if fresh else None
        product = "bfloat16" if precision == "bf16" else "float32"
        with self._strategy.scope():
            self._model = network.trainable(recipe, class_count, data.normalisation, precision, start)
            self._optimizer = optim.optimizer(recipe.optimizer, data.batch_size, product)
            optim.build(self._optimizer, self._model.trainable_variables)
        self._copy = network.plain(recipe, class_count, data.normalisation)
        twin = optim.optimizer(recipe.optimizer, data.batch_size, product)
        optim.build(twin, self._copy.trainable_variables)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._copy.compile(twin, loss, metrics=["accuracy"])  # so that whoever opens a checkpoint can go on with `fit`
        self.compiled = False
        self._graphs: dict[tuple[int, Phase, bool], Any] = {}
        shape = (None, *data.sample.shape[1:])
        judged = [tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([None], tf.int32)]
        self._judge = tf.function(self._judge_graph, input_signature=judged)

    # ---- training -----------------------------------------------------------------------------------------------

    def compile(self, leg: Leg, block: Block) -> None:
        """Trace and optimise the graph of a leg before time is taken, by a step that leaves nothing behind.

        Except for the statistics of norms that have none yet.
        """
        before = self.read()
        rate = np.zeros(1, np.float32)
        norms.start_statistics(self._model, lambda: self.train(leg, block, 0, 0, rate))
        statistics = [weight.numpy() for weight in self._model.non_trainable_weights]
        fresh = self._optimizer.iterations.numpy() == 1
        self.write(before)
        if fresh:
            for weight, value in zip(self._model.non_trainable_weights, statistics, strict=True):
                weight.assign(value)
        if self._data.validation is not None:
            self._judge.get_concrete_function()

    def train(
        self, leg: Leg, block: Block, epoch: int, first: int, rates: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run several steps of one leg in one call, which saves a millisecond each.

        Args:
            block: the images of these steps.
            epoch: counted from 0.
            first: the first of the steps, counted over the whole run from 0.
            rates: the learning rate of each step, `(n,)`.

        Returns:
            The mean loss and the number of right answers of each step, both float32 `(n,)`.
        """
        losses, correct = self._graph(leg)(block.images, block.labels, block.places, block.ids, epoch, first, rates)
        return losses.numpy(), correct.numpy()

    def _graph(self, leg: Leg) -> Any:
        key = leg.side, leg.phase, self.compiled
        if key not in self._graphs:
            replicas = len(strategy.on_replicas(self._strategy, lambda: None))
            number = tf.TensorSpec([], tf.int32)
            some, rates = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
            images = tf.TensorSpec((None, *self._data.sample.shape[1:]), tf.uint8)

            def steps(images: Any, labels: Any, places: Any, ids: Any, epoch: Any, first: Any, rates: Any) -> Any:
                return self._train_graph(leg, key[2], images, labels, places, ids, epoch, first, rates)

            signature = [(images,) * replicas, (some,) * replicas, some, some, number, number, rates]
            self._graphs[key] = tf.function(steps, input_signature=signature)
        return self._graphs[key]

    def _train_graph(
        self,
        leg: Leg,
        compiled: bool,
        images: Any,
        labels: Any,
        places: Any,
        ids: Any,
        epoch: Any,
        first: Any,
        rates: Any,
    ) -> tuple[Any, Any]:
        size, count = self._data.batch_size, tf.size(rates)
        losses, correct = tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count)
        with _resting(self._model, leg.phase.resting) as weights:
            for i in tf.range(count):
                self._optimizer.learning_rate.assign(rates[i])
                part = slice(i * size, tf.minimum((i + 1) * size, tf.size(places)))
                optim.set_share(self._optimizer, tf.size(places[part]) / size)
                step = functools.partial(self._step, leg.side, weights)
                if compiled:
                    step = tf.function(step, jit_compile=True)
                loss, right = self._strategy.run(step, (images, labels, places[part], ids[part], epoch, first + i))
                losses = losses.write(i, self._strategy.reduce("SUM", loss, None))
                correct = correct.write(i, self._strategy.reduce("SUM", right, None))
        return losses.stack(), correct.stack()

    def _step(
        self, side: int, weights: Any, images: Any, labels: Any, places: Any, ids: Any, epoch: Any, step: Any
    ) -> tuple[Any, Any]:
        """One replica's part of one step: its share of the mean loss over the whole batch, and its right answers."""
        mine, answers = strategy.mine(images), strategy.mine(labels)
        pixels, targets = self._data.batches.batch(mine, answers, places, ids, epoch, step, side)
        with tf.GradientTape() as tape:
            logits = self._model(pixels, training=True)
            losses = cross_entropy(logits, targets, self._recipe.label_smoothing)
            weighted = losses * tf.linalg.matvec(targets, self._data.class_weights)
            loss = tf.reduce_sum(weighted) / tf.cast(tf.size(places), tf.float32)
            penalties = self._model.losses  # of the weights' size
            replicas = self._strategy.num_replicas_in_sync
            total = loss + tf.add_n(penalties) / replicas if penalties else loss
        # The optimiser sums the gradients over the replicas.
        self._optimizer.apply(tape.gradient(total, weights), weights)
        return loss, right_answers(logits, tf.argmax(targets, axis=1, output_type=tf.int32))

    # ---- looking on ----------------------------------------------------------------------------------------------

    def shown(self, block: Block, epoch: int, step: int) -> tuple[Images, dict[str, Floats], dict[str, Floats]]:
        """What can be looked at of the network as it is now and a few images of a step.

        Args:
            block: these images.
            step: counted over the whole run.

        Returns:
            The images after augmentation, uint8 `(B, H, W, 3)`; the weights that are trained, and the gradients of the
            mean loss over the images, both by the weights' paths.
        """
        side = self._copy.input_shape[1]
        places, ids, epochs, steps = (tf.constant(values) for values in (block.places, block.ids, epoch, step))
        images, targets = self._data.batches.batch(block.images[0], block.labels[0], places, ids, epochs, steps, side)
        network.copy_weights(self._model, self._copy)
        weights = self._copy.trainable_variables
        values = {weight.path: weight.numpy() for weight in weights}
        with tf.GradientTape() as tape:
            logits = self._copy(images, training=True)
            loss = tf.reduce_mean(cross_entropy(logits, targets, self._recipe.label_smoothing))
        slopes = zip(weights, tape.gradient(loss, weights), strict=True)
        pixels = np.clip(np.rint(images.numpy()), 0, 255).astype(np.uint8)
        return pixels, values, {weight.path: slope.numpy() for weight, slope in slopes if slope is not None}

    # ---- judging, saving ----------------------------------------------------------------------------------------

    def judge(self) -> tuple[float, npt.NDArray[np.int64]]:
        """Mean cross-entropy on validation in float32, without smoothing, weights or augmentation; and the answers.

        Returns:
            The loss, and the most probable class of each image, int64 `(N,)`.
        """
        judged = self._data.validation
        assert judged is not None
        network.copy_weights(self._model, self._copy)
        loss, answers = 0.0, np.empty(len(judged), np.int64)
        count = at_once(JUDGED_BATCH, judged.image_size[0])
        for start in range(0, len(judged), count):
            part = slice(start, start + count)
            images, labels = np.ascontiguousarray(judged.images[part]), judged.labels[part].astype(np.int32)
            sums, found = self._judge(images, labels)
            loss += float(sums)
            answers[part] = found.numpy()
        return loss / len(judged), answers

    def _judge_graph(self, images: Any, labels: Any) -> tuple[Any, Any]:
        logits = self._copy(tf.cast(images, tf.float32), training=False)
        targets = tf.one_hot(labels, logits.shape[-1])
        return tf.reduce_sum(cross_entropy(logits, targets, 0.0)), tf.argmax(logits, axis=1)

    def begin(self, start: Start) -> None:
        """Begin with an earlier training's weights, and its optimiser's state where it has one."""
        start.fill(self._model, self._optimizer)

    def model(self) -> Any:
        """The network as it is now, in float32, compiled with the optimiser as it is now: for checkpoints."""
        network.copy_weights(self._model, self._copy)
        for written, read in zip(self._copy.optimizer.variables, self._optimizer.variables, strict=True):
            written.assign(read)
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


@contextlib.contextmanager
def _resting(model: Any, resting: tuple[str, ...]) -> Iterator[list[Any]]:
    """The weights that learn while others rest; what is traced inside runs resting layers as in inference.

    Args:
        resting: names of layers, or `layer/weight`; a layer may be a model of its own, as `base`.
    """
    still: set[int] = set()
    layers = []
    for path in resting:
        name, _, weight = path.partition("/")
        layer = model.get_layer(name)
        still |= {id(variable) for variable in layer.variables if weight in ("", variable.name)}
        layers += [] if weight else [layer]
    learning = [weight for weight in model.trainable_variables if id(weight) not in still]
    for layer in layers:
        layer.trainable = False
    try:
        yield learning
    finally:
        for layer in layers:
            layer.trainable = True


def cross_entropy(logits: Any, targets: Any, smoothing: float) -> Any:
    """Of each image, `(B,)`; `smoothing` of the target is spread evenly over all classes (Szegedy et al. 2016).

    Args:
        targets: float32 `(B, C)`, each row sums to 1.
    """
    targets = targets * (1 - smoothing) + smoothing / logits.shape[-1]
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def right_answers(logits: Any, labels: Any) -> Any:
    """How many, as float32."""
    answers = tf.argmax(logits, axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(answers == labels, tf.float32))
