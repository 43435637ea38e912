"""Where an INT8 network rounds, beyond what NNCF decides: maxima and pixels.

NNCF quantises what multiplies, and what follows it without an activation in between. Where an activation such as SiLU
comes behind a pooling, both stay float, and the largest maps of a network are written and read in four times the bytes.
And it takes the range of the pixels from a few images, where whole numbers from 0 to 255 need no rounding at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from peregrine import host
from peregrine.dataset import Images
from peregrine.libraries import openvino
from peregrine.libraries.openvino import opset14


def reaches(model: Any, batches: Sequence[Images]) -> dict[str, float]:
    """How far from zero the values are that maxima are taken of, by the pooling's name: the mean over the batches.

    Args:
        model: in float32.
        batches: uint8 `(n, H, W, 3)` each.
    """
    watched = model.clone()
    poolings = _poolings(watched)
    if not poolings:
        return {}
    axes = np.arange(4)
    watched.add_outputs([
        opset14.reduce_max(opset14.absolute(pooling.input_value(0)), axes).output(0) for pooling in poolings
    ])  # fmt: skip
    compiled = openvino.compile_for_cpu(watched, "fp32", host.threads())
    found = [[answer.item() for answer in compiled({"images": batch}).to_tuple()[1:]] for batch in batches]
    names = [pooling.get_friendly_name() for pooling in poolings]
    return dict(zip(names, np.mean(found, 0).tolist(), strict=True))


def round_maxima(model: Any, reach: Mapping[str, float]) -> None:
    """Round what enters each pooling right behind an INT8 convolution to 8 bits.

    The steps are symmetric around zero, so that the convolution needs a factor for them and nothing else.
    """
    for pooling in _poolings(model):
        if not _is_int8_convolution(pooling.input_value(0).get_node()):
            continue
        step = np.float32(reach[pooling.get_friendly_name()] / 127)
        low, high = -128 * step, 127 * step
        rounded = opset14.fake_quantize(pooling.input_value(0), low, high, low, high, 256)
        pooling.input(0).replace_source_output(rounded.output(0))
    openvino.keep_pooling_first(model)


def keep_pixels(model: Any) -> None:
    """Let the first rounding be from 0 to 255 in steps of 1, where it is of the pixels as they are."""
    for rounding in model.get_ordered_ops():
        if rounding.get_type_name() == "FakeQuantize" and _is_pixels(rounding.input_value(0).get_node()):
            for place, value in enumerate((0, 255, 0, 255), 1):
                rounding.input(place).replace_source_output(opset14.constant(np.float32(value)).output(0))
    model.validate_nodes_and_infer_types()


def _poolings(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if openvino.is_max_pooling(node)]


def _is_int8_convolution(node: Any) -> bool:
    """Whether a value is a convolution's, with or without its bias, whose weights are no plain constant any more."""
    if node.get_type_name() == "Add":
        node = node.input_value(0).get_node()
    weights = node.input_value(1).get_node() if node.get_type_name() == "Convolution" else None
    return weights is not None and weights.get_type_name() != "Constant"


def _is_pixels(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Parameter")
