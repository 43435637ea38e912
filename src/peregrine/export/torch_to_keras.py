"""PyTorch to Keras: the same network, operation by operation, for what is made of Keras models alone, as TFLite is.

PyTorch traces the network to ATen's operations, and each becomes the built-in layer that computes the same, with pixels
as `(N, H, W, C)` instead of `(N, C, H, W)`. What stands before and behind the network, from uint8 to probabilities, is
what the TensorFlow engine puts there.
"""

import inspect
import operator
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from peregrine.artifact import Artifact
from peregrine.engines.pytorch.graph import Normalise, open_classifier
from peregrine.engines.tensorflow.checkpoint import save_model
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.network import Normalisation, around
from peregrine.errors import CheckFailed
from peregrine.formats import FORMATS

layers = keras.layers


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.keras` into `folder`, of built-in layers alone, with free batch size and norms folded.

    Returns:
        Notes for the manifest: what produced the file.

    Raises:
        CheckFailed: the network has an operation that is not in `OPERATIONS`.
    """
    classifier, manifest = open_classifier(source).folded(), source.manifest
    side = manifest.preprocess.size
    program = trace(classifier.network, torch.zeros(2, 3, side, side))
    name = str(manifest.model["name"])
    normalisation = _normalisation(classifier.normalise)
    model = around(lambda images: port(program, images), name, side, normalisation, classifier.temperature.item())
    save_model(model, folder / FORMATS["keras"].file)
    return {"producer": f"torch {torch.__version__}, keras {keras.__version__}"}


def trace(network: nn.Module, images: Tensor) -> ExportedProgram:
    """The operations of a network in eval mode, none of them in place.

    Args:
        images: float `(N, 3, H, W)`, N ≥ 1.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")  # PyTorch's own use of it
        program: ExportedProgram = torch.export.export(network, (images,)).run_decompositions({})
    return program


def port(program: ExportedProgram, images: Any) -> Any:
    """Call layers that compute what a traced network does.

    Args:
        program: float `(N, 3, H, W)` to float `(N, C)`.
        images: symbolic float `(N, H, W, 3)`.

    Returns:
        Symbolic float `(N, C)`.

    Raises:
        CheckFailed: an operation, or a setting of one, is not known here; the message names it.
    """
    signature = program.graph_signature
    constants = {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = constants[names[node.name]] if node.name in names else images
        elif node.op == "call_function":
            arguments = fx.map_arg(node.args, values.__getitem__)
            values[node] = _call(node, arguments)
    (result,) = program.graph.output_node().args[0]
    return values[result]


def _call(node: fx.Node, arguments: Sequence[Any]) -> Any:
    function = OPERATIONS.get(str(node.target))
    if function is None:
        raise _unknown(node, "there is none for it")
    if isinstance(arguments[0], Tensor):
        raise _unknown(node, "it computes with weights alone")
    try:
        bound = inspect.signature(function).bind(node, *arguments, **node.kwargs)
    except TypeError as error:
        raise _unknown(node, str(error)) from None
    return function(*bound.args, **bound.kwargs)


def _told(node: fx.Node) -> str:
    """An operation by name, with the part of the network that it is in."""
    where = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return f"{node.target} in {where[-1]}" if where and where[-1] else str(node.target)


def _unknown(node: fx.Node, what: str) -> CheckFailed:
    return CheckFailed(
        f"{_told(node)} cannot become a layer of Keras: {what}; change the network, or add it to OPERATIONS in "
        "export/torch_to_keras.py"
    )


def _normalisation(normalise: Normalise) -> Normalisation:
    mean, std = normalise.mean.double(), normalise.std.double()
    return Normalisation((1 / std).tolist(), (-mean / std).tolist())


def _filled(layer: Any, x: Any, *weights: Tensor | None) -> Any:
    """Call a layer and give it weights, in its order."""
    outputs = layer(x)
    layer.set_weights([weight.detach().numpy() for weight in weights if weight is not None])
    return outputs


# ---- one function for each operation, with the defaults of its arguments in PyTorch ---------------------------------


def _convolution(
    node: fx.Node,
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Any:
    if groups != 1 or set(dilation) != {1}:
        raise _unknown(node, f"groups {groups} and dilation {list(dilation)} are not 1")
    width, _, *kernel = weight.shape
    x, rest = _padded(node, x, kernel, stride, padding)
    layer = layers.Conv2D(width, kernel, stride, rest, use_bias=bias is not None, name=node.name)
    return _filled(layer, x, weight.permute(2, 3, 1, 0), bias)


def _batch_norm(
    node: fx.Node,
    x: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    epsilon: float,
) -> tuple[Any]:
    scale, center = weight is not None, bias is not None
    layer = layers.BatchNormalization(epsilon=epsilon, scale=scale, center=center, name=node.name.lstrip("_"))
    return (_filled(layer, x, weight, bias, mean, variance),)  # in PyTorch the first of three


def _linear(node: fx.Node, x: Any, weight: Tensor, bias: Tensor | None = None) -> Any:
    if len(x.shape) != 2:
        raise _unknown(node, "what it multiplies has pixels")
    return _filled(layers.Dense(len(weight), use_bias=bias is not None, name=node.name), x, weight.T, bias)


def _max_pool(
    node: fx.Node,
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Any:
    if set(dilation) != {1}:
        raise _unknown(node, f"dilation {list(dilation)} is not 1")
    steps = stride or kernel
    padded, rest = _padded(node, x, kernel, steps, padding)
    if padded is not x and str(node.args[0].target) != "aten.relu.default":  # type: ignore[union-attr]  # it is a node
        raise _unknown(node, "zeros beyond the edge are no harm to a maximum only behind a ReLU")
    return layers.MaxPooling2D(kernel, steps, rest, name=node.name)(padded)


def _activation(name: str) -> Callable[..., Any]:
    def activation(node: fx.Node, x: Any) -> Any:
        return layers.Activation(name, name=node.name)(x)

    return activation


def _over_pixels(kind: Any) -> Callable[..., Any]:
    def reduced(node: fx.Node, x: Any, axes: Sequence[int] = (), keepdim: bool = False) -> Any:
        if len(x.shape) != 4 or {axis % 4 for axis in axes} != {2, 3}:
            raise _unknown(node, f"it goes over the axes {list(axes)}, not over height and width")
        return kind(keepdims=keepdim, name=node.name)(x)

    return reduced


def _add(node: fx.Node, x: Any, y: Any) -> Any:
    if not isinstance(y, keras.KerasTensor) or x.shape != y.shape:
        raise _unknown(node, "it adds something else than two layers' values of one shape")
    return layers.Add(name=node.name)([x, y])


def _divide(node: fx.Node, x: Any, divisor: Any) -> Any:
    if not isinstance(divisor, int | float):
        raise _unknown(node, "it divides by something else than a number")
    return layers.Rescaling(1 / divisor, name=node.name)(x)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "aten.conv2d.default": _convolution,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    str(operator.getitem): lambda node, values, index: values[index],
    "aten.linear.default": _linear,
    "aten.relu.default": _activation("relu"),
    "aten.gelu.default": _activation("gelu"),
    "aten.silu.default": _activation("silu"),
    "aten.hardswish.default": _activation("hard_silu"),
    "aten.max_pool2d.default": _max_pool,
    "aten.amax.default": _over_pixels(layers.GlobalMaxPooling2D),
    "aten.mean.dim": _over_pixels(layers.GlobalAveragePooling2D),
    "aten.add.Tensor": _add,
    "aten.div.Tensor": _divide,
}


def _padded(
    node: fx.Node, x: Any, window: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Any, str]:
    """Symbolic pixels with the zeros that Keras' layers would not put there, and how the layer is to pad the rest.

    PyTorch pads all sides alike; Keras' "same" by as little as the windows need, and by the odd pixel behind, so that
    with a stride of 2 its windows often begin a pixel later.
    """
    given = node.meta["val"].shape[2:]  # by PyTorch's own arithmetic, whatever its mode of rounding
    before, behind, same = [], [], True
    for length, out, span, step, pad in zip(x.shape[1:3], given, window, stride, padding, strict=True):
        before.append(pad)
        behind.append(max((out - 1) * step + span - length - pad, 0))
        least = -(-length // step)
        total = max((least - 1) * step + span - length, 0)
        same &= (out, before[-1], behind[-1]) == (least, total // 2, total - total // 2)
    if not any(before + behind):
        return x, "valid"
    if same:
        return x, "same"
    return layers.ZeroPadding2D(tuple(zip(before, behind, strict=True)), name=f"{node.name}_padding")(x), "valid"
