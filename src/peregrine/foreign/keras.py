"""Somebody's Keras file, `.keras` or `.h5` of Keras 2 and 3: checked, then opened in safe mode."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.engines.tensorflow.checkpoint import load_model, save_model
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.network import copy_weights
from peregrine.errors import CheckFailed, UsageError
from peregrine.foreign import keras_checks
from peregrine.foreign.base import ForeignModel, first_line
from peregrine.foreign.pixels import Pixels
from peregrine.formats import FORMATS

_BATCH = 50


def open_model(path: Path) -> "KerasModel":
    """Open a Keras file; what was trained in lower precision is computed in float32.

    Raises:
        DamagedFile: it is not a whole Keras file.
        UsageError: it holds code, takes something from another file, or is of layers that Keras 3 cannot build.
    """
    keras_checks.check(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever it stumbles on
        raise UsageError(
            f"Keras {keras.__version__} cannot build {path} ({first_line(error)}); "
            "save it anew with Keras 3, or export it to ONNX where it was trained"
        ) from None
    if len(getattr(model, "inputs", None) or []) != 1:
        raise UsageError(f"a classifier has one input of known shape; {path} has another; build it with keras.Input")
    return KerasModel(path, _in_float32(model))


class KerasModel(ForeignModel):
    """A model that stays a Keras model."""

    format = "keras"

    def __init__(self, path: Path, model: Any) -> None:
        super().__init__(
            path,
            tuple(model.inputs[0].shape),
            model.inputs[0].dtype,
            {str(number): tuple(output.shape) for number, output in enumerate(model.outputs)},
            {"producer": f"keras {keras.__version__}"},
        )
        self._model = model
        self._function: Any = None

    def _infer(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._function is None:
            network = self._network()
            self._function = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
        try:
            answers: npt.NDArray[Any] = self._function(tf.constant(values)).numpy()
        except Exception as error:  # of TensorFlow's many classes
            raise CheckFailed(
                f"{self.path} cannot answer images {values.shape} {values.dtype} ({first_line(error)}); "
                "check --size and --layout"
            ) from None
        return answers

    def _network(self) -> Any:
        return keras.Model(self._model.inputs, self._model.outputs[int(self.output)], name="network")

    def write(self, folder: Path, pixels: Pixels, outputs: str) -> None:
        """Write `model.keras`, with the layers `logits` and `probabilities` that its Runtime asks."""
        images = keras.Input((self.size, self.size, 3), dtype="uint8", name="images")
        # Per channel before they are reordered: the cast comes first, as some parsers want of uint8.
        rgb = pixels if pixels.channels == "rgb" else pixels.flipped()
        factor, offset = (each.tolist() for each in rgb.factors())
        values = keras.layers.Rescaling(factor, offset, dtype="float32", name="normalise")(images)
        planes = self.layout == "NCHW"
        if planes or pixels.channels == "bgr":
            values = keras.layers.Permute((3, 1, 2), name="permute")(values)
        if pixels.channels == "bgr":
            values = _flipped(values)
            values = values if planes else keras.layers.Permute((2, 3, 1), name="permute_back")(values)
        if self.dtype == "uint8":
            values = keras.ops.cast(values, "uint8")
        before_softmax = _before_softmax(self._model, int(self.output)) if outputs == "probabilities" else None
        network = self._network() if before_softmax is None else before_softmax
        answers = network(values)
        if len(answers.shape) != 2:
            answers = keras.layers.Flatten(dtype="float32", name="flatten")(answers)
        if outputs == "probabilities" and before_softmax is None:  # their logarithms are logits
            answers = keras.ops.log(keras.ops.maximum(answers, float(np.finfo(np.float32).tiny)))
        logits = keras.layers.Activation("linear", dtype="float32", name="logits")(answers)
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
        name = re.sub(r"\W+", "_", self.path.stem) or "imported"
        save_model(keras.Model(images, probabilities, name=name), folder / FORMATS["keras"].file)

    def reopen(self, folder: Path) -> Callable[[Images], Probabilities]:
        model = load_model(folder / FORMATS["keras"].file)
        function = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

        def answer(images: Images) -> Probabilities:
            parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
            return np.concatenate([function(tf.constant(part)).numpy() for part in parts])

        for count in (1, 3):  # images at once
            answer(np.zeros((count, self.size, self.size, 3), np.uint8))
        return answer


def _flipped(planes: Any) -> Any:
    """`(N, 3, H, W)` with the planes in the other order; by layers, for HDF5 files do not hold operations."""
    single = [
        keras.layers.Cropping2D(((index, 2 - index), (0, 0)), "channels_last", name=f"plane_{index}")(planes)
        for index in range(3)
    ]
    return keras.layers.Concatenate(axis=1, name="channels")(single[::-1])


def _before_softmax(model: Any, output: int) -> Any:
    """The model up to what its last layer gives to a softmax; None where it does not end with one."""
    last = model.layers[-1]
    if last.output is not model.outputs[output] or not isinstance(last.input, keras.KerasTensor):
        return None
    config = last.get_config()
    if isinstance(last, keras.layers.Softmax) and config.get("axis") == -1:
        return keras.Model(model.inputs, last.input, name="network")
    if getattr(last, "activation", None) is not keras.activations.softmax:
        return None
    linear = type(last).from_config({**config, "activation": "linear"})
    answers = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.inputs, answers, name="network")


def _in_float32(model: Any) -> Any:
    """The same model with every layer computing in float32, as of one that was trained in mixed precision."""
    if all(layer.compute_dtype in ("float32", "uint8", None) for layer in model._flatten_layers(include_self=False)):
        return model

    def copy(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    copy_weights(model, clone)
    return clone
