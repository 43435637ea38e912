"""Training `cnn` with the classic augmentation: the TensorFlow engine against Keras' fit and ImageDataGenerator.

    PEREGRINE_DATA=… python benchmarks/tensorflow_training.py [--rounds 3] [--out results.json]

The rival is what scripts do: the same network, `ImageDataGenerator(rotation_range=20, width_shift_range=0.2, …)`,
`model.fit(generator.flow(…))`, Adam, batch 256. Every contender runs in a process of its own on the 50,000 training
images of CIFAR-10; two epochs each, of which the second counts, so nobody's tracing or warm-up does. The augmentations
alone are also taken by themselves. Rounds are interleaved in random order; a ratio is that of medians, and its range is
that of the rounds. What is timed is augmentation and training; no validation, no saving.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 256
CLASSIC = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 0.2,
    "zoom_range": 0.2,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}


def recipe() -> Any:
    import peregrine

    changes = {
        "epochs": 2,
        "batch_size": BATCH,
        "augmentation.preset": "classic",
        "validation": "none",
        "callbacks.tensorboard": False,
        "callbacks.early_stopping_patience": 0,
    }
    return peregrine.load_recipe("cnn", changes)


def ours(precision: str) -> float:
    """Images/s in the second epoch."""
    import peregrine

    splits = peregrine.load_dataset("cifar10")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        peregrine.train(splits, recipe().changed({"precision": precision}), run=run)
        history = json.loads((run / "results" / "training_history.json").read_text())
    speed: float = history[-1]["images_per_s"]
    return speed


def generator() -> Any:
    """The rival's batches, scaled as scripts do."""
    import peregrine
    from peregrine.engines.tensorflow.library import tf

    train = peregrine.load_dataset("cifar10").train
    flow = tf.keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255, **CLASSIC)
    return flow.flow(train.images, train.labels, batch_size=BATCH)


def fit() -> float:
    """Images/s of `model.fit` in the second epoch, in float32."""
    from peregrine.engines.tensorflow.library import keras
    from peregrine.engines.tensorflow.models import cnn

    warnings.filterwarnings("ignore", "Your `PyDataset` class")
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, cnn.build(cnn.Options(), images, 10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    batches = generator()

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.start

    watch = Watch()
    model.fit(batches, epochs=2, verbose=0, callbacks=[watch])
    return len(batches.x) / watch.seconds


def generator_alone() -> float:
    batches = generator()
    next(batches)
    start = time.perf_counter()
    count = 40
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.perf_counter() - start)


def augmentation_alone() -> float:
    """Gathering, noise and resampling, as the steps do it, on the same images."""
    import peregrine
    from peregrine.engines.tensorflow.batches import Batches
    from peregrine.engines.tensorflow.library import tf
    from peregrine.engines.tensorflow.pipeline import Resident, order

    train = peregrine.load_dataset("cifar10").train
    batches = Batches(recipe(), len(train), 10, [0.0, 0.0, 0.0])
    block = Resident(train, tf.distribute.get_strategy()).block(order(len(train), 0, 0), 0, len(train))
    count = len(train) // BATCH

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def epoch(number: Any) -> Any:
        total = 0.0
        for step in tf.range(count):
            part = slice(step * BATCH, (step + 1) * BATCH)
            places = tf.constant(block.places)[part]
            images, _ = batches.batch(block.images[0], block.labels[0], places, places, number, step, 32)
            total += tf.reduce_sum(images[:, 0, 0, 0])
        return total

    epoch(tf.constant(0))
    start = time.perf_counter()
    float(epoch(tf.constant(1)))
    return count * BATCH / (time.perf_counter() - start)


CONTENDERS: dict[str, Callable[[], float]] = {
    "fit(ImageDataGenerator), fp32": fit,
    "Peregrine, fp32": lambda: ours("fp32"),
    "Peregrine, precision=auto": lambda: ours("auto"),
    "ImageDataGenerator alone": generator_alone,
    "Peregrine's augmentation alone": augmentation_alone,
}
RATIOS = [
    ("Peregrine, fp32", "fit(ImageDataGenerator), fp32", 1.7),
    ("Peregrine, precision=auto", "fit(ImageDataGenerator), fp32", 2.5),
    ("Peregrine's augmentation alone", "ImageDataGenerator alone", 10.0),
]


def measure(name: str) -> float:
    """In a process of its own."""
    ended = subprocess.run([sys.executable, __file__, "--only", name], stdout=subprocess.PIPE, text=True, check=True)
    return float(ended.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender (3)")
    parser.add_argument("--out", type=Path, help="write all samples as JSON")
    parser.add_argument("--only", choices=CONTENDERS, help="run one contender here and print its images/s")
    arguments = parser.parse_args()
    if arguments.only:
        print(CONTENDERS[arguments.only]())
        return 0

    from peregrine import host

    samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(arguments.rounds):
        for name in random.Random(number).sample(list(CONTENDERS), len(CONTENDERS)):
            samples[name].append(measure(name))
            print(f"round {number + 1}: {name}: {samples[name][-1]:,.0f} images/s", file=sys.stderr)
    print(f"{host.processor()}, {host.threads()} threads; images/s, median of {arguments.rounds} (least to most)")
    for name, found in samples.items():
        print(f"{name:32} {statistics.median(found):10,.0f}  ({min(found):,.0f} to {max(found):,.0f})")
    missed = False
    for name, rival, wanted in RATIOS:
        ratio = statistics.median(samples[name]) / statistics.median(samples[rival])
        rounds = [one / other for one, other in zip(samples[name], samples[rival], strict=True)]
        print(f"{name} / {rival}: {ratio:.2f} ({min(rounds):.2f} to {max(rounds):.2f}), wanted {wanted}")
        missed |= ratio < wanted
    if arguments.out:
        content = {"host": host.describe(), "versions": host.versions(), "images_per_s": samples}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
