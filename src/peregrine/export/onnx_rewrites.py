"""Rewrites of an ONNX graph that keep every number and make it what runtimes are good at.

What comes out of tf2onnx has the normalisation before the permutation to NCHW, batch norms as a product and a sum,
means and maxima over the pixels of NHWC, and reshapes to lengths that are constants but for the batch, or those already
there.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def permute_before_normalising(graph: Any) -> None:
    """Cast, multiply, add, permute → cast, permute, multiply, add: the order that every Artifact has.

    Only what stands between the input's Cast and a first permutation to NCHW is moved, and only constants per channel.
    """
    consumers, constants = _consumers(graph), _constants(graph)
    node = _only(consumers, graph.input[0].name)
    if node is None or node.op_type != "Cast":
        return
    chain = []
    start = node.output[0]
    node = _only(consumers, start)
    while node is not None and node.op_type in ("Mul", "Add") and _per_channel(constants.get(node.input[1]), axis=-1):
        chain.append(node)
        node = _only(consumers, node.output[0])
    if not chain or node is None or node.op_type != "Transpose" or _permutation(node) != TO_NCHW:
        return
    after = node.output[0]
    node.input[0], node.output[0] = start, f"{start}/nchw"
    chain[0].input[0] = node.output[0]
    chain[-1].output[0] = after
    for link in chain:
        link.input[1] = _add_constant(graph, f"{link.input[1]}/nchw", constants[link.input[1]].reshape(-1, 1, 1))
    graph.node.remove(node)
    graph.node.insert(list(graph.node).index(chain[0]), node)


def pixels(graph: Any) -> str | None:
    """The value with the pixels in NCHW, whole numbers from 0 to 255, which the input's Cast and Transpose give."""
    consumers = _consumers(graph)
    cast = _only(consumers, graph.input[0].name)
    permutation = _only(consumers, cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    if permutation is None or permutation.op_type != "Transpose" or _permutation(permutation) != TO_NCHW:
        return None
    return str(permutation.output[0])


def fold_normalisation(graph: Any) -> None:
    """Cast, permute, normalise, convolution → cast, permute, convolution, where the convolution pads nothing.

    So an INT8 convolution can take the pixels as they are, and rounds none of them.
    """
    consumers, constants, start = _consumers(graph), _constants(graph), pixels(graph)
    if start is None:
        return
    node = _only(consumers, start)
    scale: npt.NDArray[np.float64] = np.ones(1)
    offset: npt.NDArray[np.float64] = np.zeros(1)
    chain = []
    while node is not None and node.op_type in _STEPS and _per_channel(constants.get(node.input[1]), axis=1):
        scale, offset = _STEPS[node.op_type](scale, offset, constants[node.input[1]].ravel().astype(np.float64))
        chain.append(node)
        node = _only(consumers, node.output[0])
    if not chain or node is None or node.op_type != "Conv" or _pads(node) or node.input[1] not in constants:
        return
    weights = constants[node.input[1]].astype(np.float64)
    if not {scale.size, offset.size} <= {1, weights.shape[1]}:  # a convolution in groups
        return
    bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights))
    inside, name = (-1, 1, 1), node.output[0]
    node.input[:] = [
        start,
        _add_constant(graph, f"{name}/weights", weights * scale.reshape(inside)),
        _add_constant(graph, f"{name}/bias", bias + (weights * offset.reshape(inside)).sum((1, 2, 3))),
    ]
    for link in chain:
        graph.node.remove(link)


def fold_skips(graph: Any) -> None:
    """A convolution of x, and x, added → one convolution, whose filters pass on what is in their middle."""
    consumers, constants = _consumers(graph), _constants(graph)
    producers = {name: node for node in graph.node for name in node.output}
    for total in list(graph.node):
        if total.op_type != "Add":
            continue
        for convolved, skipping in (total.input, reversed(total.input)):
            convolution = producers.get(convolved)
            if convolution is None or convolution.op_type != "Conv" or convolution.input[0] != skipping:
                continue
            weights = constants.get(convolution.input[1])
            if weights is None or _only(consumers, convolved) is not total or not _keeps_shape(convolution, weights):
                continue
            passing = np.zeros_like(weights)
            channels, (height, width) = np.arange(len(weights)), weights.shape[2:]
            passing[channels, channels, height // 2, width // 2] = 1
            convolution.input[1] = _add_constant(graph, f"{total.output[0]}/weights", weights + passing)
            convolution.output[0] = total.output[0]
            graph.node.remove(total)
            break


def take_pixels_as_they_are(graph: Any) -> None:
    """Cast, permute, quantise by a step of 1 → permute."""
    consumers, constants, start = _consumers(graph), _constants(graph), pixels(graph)
    quantise = _only(consumers, start) if start is not None else None
    if quantise is None or quantise.op_type != "QuantizeLinear":
        return
    step, zero = (constants[name] for name in quantise.input[1:])
    if step != 1 or zero != 0 or zero.dtype != np.uint8:
        return
    cast = _only(consumers, graph.input[0].name)
    permutation = _only(consumers, cast.output[0])
    permutation.input[0], permutation.output[0] = cast.input[0], quantise.output[0]
    graph.node.remove(cast)
    graph.node.remove(quantise)


# What a step of a normalisation makes of pixels · scale + offset.
_STEPS = {
    "Add": lambda scale, offset, value: (scale, offset + value),
    "Sub": lambda scale, offset, value: (scale, offset - value),
    "Mul": lambda scale, offset, value: (scale * value, offset * value),
    "Div": lambda scale, offset, value: (scale / value, offset / value),
}


def restore_batch_norms(graph: Any) -> None:
    """A product and a sum with constants per channel of NCHW → one BatchNormalization.

    ONNX Runtime keeps its blocked layout through it, where a lone sum makes it reorder to and fro: the network `cnn`
    runs at 9,300 instead of 5,700 images/s on two cores of Zen 5.
    """
    consumers, constants = _consumers(graph), _constants(graph)
    for product in list(graph.node):
        total = _only(consumers, product.output[0])
        if product.op_type != "Mul" or total is None or total.op_type != "Add":
            continue
        scale, offset = constants.get(product.input[1]), constants.get(total.input[1])
        if scale is None or offset is None or scale.size != offset.size:
            continue
        if not (_per_channel(scale, axis=1) and _per_channel(offset, axis=1)):
            continue
        name, channels = total.output[0], scale.size
        values = {"scale": scale, "offset": offset, "mean": np.zeros(channels), "variance": np.ones(channels)}
        inputs = [_add_constant(graph, f"{name}/{key}", value.ravel()) for key, value in values.items()]
        norm = helper.make_node("BatchNormalization", [product.input[0], *inputs], [name], epsilon=0.0)
        total.CopyFrom(norm)
        graph.node.remove(product)


def restore_hard_swishes(graph: Any) -> None:
    """A hard sigmoid of x, times x → HardSwish, which runtimes compute together with the convolution before it.

    ONNX Runtime's own preparation takes it apart.
    """
    consumers = _consumers(graph)
    for gate in list(graph.node):
        product = _only(consumers, gate.output[0])
        if gate.op_type != "HardSigmoid" or product is None or product.op_type != "Mul":
            continue
        given = {attribute.name: attribute.f for attribute in gate.attribute}
        slope, start = given.get("alpha", 0.2), given.get("beta", 0.5)
        if set(product.input) == {gate.input[0], gate.output[0]} and np.allclose((slope, start), (1 / 6, 0.5)):
            product.CopyFrom(helper.make_node("HardSwish", [gate.input[0]], [product.output[0]]))
            graph.node.remove(gate)


def fix_reshapes(model: Any) -> None:
    """A Reshape to (one computed length, constants…) → to the constant (-1, constants…).

    The number of elements decides the length, so the shape's arithmetic can go.
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    single = {value.name for value in inferred if [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [1]}
    producers, constants = {name: node for node in graph.node for name in node.output}, _constants(graph)
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in constants:
            continue
        shape = producers[node.input[1]]
        while shape.op_type == "Cast":
            shape = producers[shape.input[0]]
        computed = [name for name in shape.input if name not in constants]
        if shape.op_type != "Concat" or len(computed) != 1 or computed[0] not in single:
            continue
        parts = [constants.get(name, np.array([-1])) for name in shape.input]
        node.input[1] = _add_constant(graph, f"{node.output[0]}/shape", np.concatenate(parts).astype(np.int64))


def pool_before_permuting(graph: Any) -> None:
    """Permute to NHWC, mean or maximum over the pixels → GlobalAveragePool or GlobalMaxPool, flatten.

    The permutation moves all pixels. Runtimes pool in their own layout, and ONNX Runtime quantises this pooling alone.
    """
    poolings = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}
    consumers, constants = _consumers(graph), _constants(graph)
    for permutation in list(graph.node):
        pooling = _only(consumers, permutation.output[0])
        if permutation.op_type != "Transpose" or pooling is None or pooling.op_type not in poolings:
            continue
        axes = constants[pooling.input[1]].tolist() if len(pooling.input) > 1 and pooling.input[1] in constants else []
        if _permutation(permutation) != TO_NHWC or sorted(axes) != [1, 2] or _keeps_axes(pooling):
            continue
        pooled = f"{pooling.output[0]}/pooled"
        permutation.CopyFrom(helper.make_node(poolings[pooling.op_type], [permutation.input[0]], [pooled]))
        pooling.CopyFrom(helper.make_node("Flatten", [pooled], [pooling.output[0]], axis=1))


def remove_idle_reshapes(model: Any) -> None:
    """A Reshape, after others or alone, to the shape that a value had before them → that value."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    producers = {name: node for node in graph.node for name in node.output}
    same: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        source: Any = node
        while source is not None and source.op_type in ("Reshape", "Flatten"):
            before, after = shapes.get(source.input[0], []), shapes.get(node.output[0], [])
            # All lengths but the first are known (0 is not), and so the first one is the same too.
            if (
                node.op_type == "Reshape"
                and len(after) == len(before) > 1
                and after[1:] == before[1:]
                and all(after[1:])
            ):
                same[node.output[0]] = source.input[0]
            source = producers.get(source.input[0])


def name_contract(graph: Any) -> None:
    """Call the input `images`, the output `probabilities`, and the batch `N`."""
    names = {graph.input[0].name: "images", graph.output[0].name: "probabilities"}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def remove_unused(graph: Any) -> None:
    """Drop nodes and constants that nothing reads, and notes on values, which rewrites make wrong."""
    wanted = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if wanted.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            wanted.update(node.input)
    for constant in list(graph.initializer):
        if constant.name not in wanted:
            graph.initializer.remove(constant)
    del graph.value_info[:]


def _consumers(graph: Any) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            found[name].append(node)
    for value in graph.output:
        found[value.name].append(value)
    return found


def _only(consumers: dict[str, list[Any]], name: str) -> Any:
    """The node that alone reads a value, else None."""
    found = consumers.get(name, [])
    return found[0] if len(found) == 1 and isinstance(found[0], onnx.NodeProto) else None


def _constants(graph: Any) -> dict[str, npt.NDArray[Any]]:
    return {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}


def _per_channel(constant: npt.NDArray[Any] | None, axis: int) -> bool:
    """Whether a constant varies along one axis of a batch of images alone, the last (-1) or the second (1) of four."""
    if constant is None:
        return False
    channels_last = constant.ndim == 1
    channels_first = constant.ndim in (3, 4) and constant.shape[-2:] == (1, 1) and constant.shape[:-3] in ((), (1,))
    return channels_last if axis == -1 else channels_first


def _keeps_axes(node: Any) -> bool:
    return bool(next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1))


def _pads(node: Any) -> bool:
    """Whether a convolution sees anything but its input."""
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return any(given.get("pads", [])) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def _keeps_shape(convolution: Any, weights: npt.NDArray[Any]) -> bool:
    """Whether what leaves a convolution has the shape of what enters, with each pixel in the middle of its filter."""
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in convolution.attribute}
    out, inside, *kernel = weights.shape
    steps = [*given.get("strides", []), *given.get("dilations", []), given.get("group", 1)]
    middle = [side // 2 for side in kernel] * 2
    return out == inside and all(side % 2 for side in kernel) and set(steps) <= {1} and given.get("pads") == middle


def _permutation(node: Any) -> list[int]:
    return list(helper.get_node_attr_value(node, "perm"))


def _add_constant(graph: Any, name: str, value: npt.NDArray[Any]) -> str:
    kept = value if value.dtype == np.int64 else value.astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kept), name))
    return name
