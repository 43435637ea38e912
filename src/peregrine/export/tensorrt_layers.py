"""Is a parsed network of the precision that its file claims? TensorRT builds whatever the types in the graph say.

A float32 file gives a float32 engine without a word, and one layer that stayed in float32 slows down its neighbours by
casts to and fro. Deserialising an engine, and so its inspector, needs a GPU; the parsed network tells the same before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from peregrine.errors import CheckFailed

HEAVY = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"}  # the layers that the time goes into
_FLOATS = {"FLOAT", "HALF", "BF16", "FP8", "FP4"}
_MOVES = {"SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE"}  # the same numbers in another shape


@dataclass(frozen=True)
class Layer:
    """One layer of a parsed network: what it is, and the names of the tensors that it reads and gives.

    Attributes:
        kind: of TensorRT's `LayerType`, `CONVOLUTION`.
        type: of its first output, `FLOAT`, `HALF`, `INT8`, …
    """

    name: str
    kind: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def layers_of(network: Any) -> list[Layer]:
    """The layers of an `INetworkDefinition`, in its order."""
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        read = [layer.get_input(number) for number in range(layer.num_inputs)]
        given = [layer.get_output(number) for number in range(layer.num_outputs)]
        inputs = tuple(tensor.name for tensor in read if tensor is not None)
        outputs = tuple(tensor.name for tensor in given)
        found.append(Layer(layer.name, layer.type.name, given[0].dtype.name, inputs, outputs))
    return found


def assert_precision(layers: Iterable[Layer], precision: str) -> dict[str, Any]:
    """Refuse a network that is not what it claims to be.

    Args:
        precision: `fp32`: nothing is narrower. `fp16`: between the first and the last heavy layer everything is half;
            the normalisation before and the softmax after may be float32. `int8`: heavy layers read quantised values.

    Returns:
        Notes for the manifest: how many heavy layers there are, and those of an INT8 network that stayed in float.

    Raises:
        CheckFailed: a layer has another type, or no heavy layer is quantised; the message names the layers.
    """
    known = list(layers)
    heavy = [layer for layer in known if layer.kind in HEAVY]
    if precision == "fp32":
        _refuse([layer for layer in known if layer.type in _FLOATS - {"FLOAT"} or layer.type == "INT8"], "fp32")
        return {"heavy_layers": len(heavy)}
    if precision == "fp16":
        _refuse([layer for layer in _between(known) if layer.type in _FLOATS - {"HALF"}], "fp16")
        return {"heavy_layers": len(heavy)}
    producers = {name: layer for layer in known for name in layer.outputs}
    rest = [layer.name for layer in heavy if not all(_quantised(name, producers) for name in layer.inputs[:2])]
    if len(rest) == len(heavy):
        raise CheckFailed(
            f"an int8 engine has quantised layers; none of this file's {len(heavy)} convolutions and products is; "
            "give it an ONNX file with symmetric QDQ nodes"
        )
    return {"heavy_layers": len(heavy), "float_layers": rest}


def _refuse(wrong: list[Layer], precision: str) -> None:
    if wrong:
        named = ", ".join(f"{layer.name} ({layer.type.lower()})" for layer in wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckFailed(
            f"an {precision} engine has {precision} layers alone; the types in this file make others: {named}{more}; "
            "convert the ONNX file again"
        )


def _between(layers: list[Layer]) -> Iterator[Layer]:
    """The heavy layers, and those with a heavy layer both before and after them."""
    producers = {name: layer for layer in layers for name in layer.outputs}
    before: set[Layer] = set()  # those with a heavy layer before them
    for layer in layers:
        sources = [producers[name] for name in layer.inputs if name in producers]
        if any(source.kind in HEAVY or source in before for source in sources):
            before.add(layer)
    after: set[Layer] = set()
    for layer in reversed(layers):
        if layer.kind in HEAVY or layer in after:
            after.update(producers[name] for name in layer.inputs if name in producers)
    return (layer for layer in layers if layer.kind in HEAVY or (layer in before and layer in after))


def _quantised(name: str, producers: dict[str, Layer]) -> bool:
    """Whether a tensor comes out of a DequantizeLinear, perhaps in another shape."""
    layer = producers.get(name)
    while layer is not None and layer.kind in _MOVES:
        layer = producers.get(layer.inputs[0])
    return layer is not None and layer.kind == "DEQUANTIZE"
