"""Where does a converted model part from the one it was made of? Layer by layer, on the images that show it best.

The arithmetic is on plain arrays; `explain_task`, run in a worker, gets them from the Runtimes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.candidate import Candidate

Values = npt.NDArray[np.float32]

# Relative differences of one layer's values that rounding explains, by the precision of the file
LIMITS = {"fp32": 0.001, "fp16": 0.02, "int8": 0.3}


@dataclass(frozen=True)
class Node:
    """One operation of a graph, and the names of the values that it reads and gives."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Divergence:
    """The first layer whose values are not the reference's any more.

    Attributes:
        name, operation: of the node.
        difference: |Δ| of its values, relative to the reference's closest: the norm of one by that of the other.
        before: the largest such difference of what it reads; None where the reference has nothing to compare with.
    """

    name: str
    operation: str
    difference: float
    before: float | None


def differences(reference: Mapping[str, Values], candidate: Mapping[str, Values], same_names: bool) -> dict[str, float]:
    """How far each value of the candidate lies from the reference's.

    Args:
        reference, candidate: values by name, their first axis the images.
        same_names: compare what has the same name, as two ONNX files have; otherwise with the closest of the same
            shape, as a graph and the layers of the framework that it comes from.

    Returns:
        The relative difference of each value that has a counterpart.
    """
    found = {}
    for name, value in candidate.items():
        if same_names:
            others = [reference[name]] if name in reference and reference[name].shape == value.shape else []
        else:
            others = [other for other in reference.values() if other.shape == value.shape]
        if others:
            found[name] = min(_relative(value, other) for other in others)
    return found


def first_divergence(nodes: Sequence[Node], found: Mapping[str, float], limit: float) -> Divergence | None:
    """The first node, in the graph's order, that differs by more than `limit`, and with it all that comes after it.

    A value in the middle of what the other side computes in one step has no counterpart and differs too; what comes
    after it agrees again, and so it is not meant.
    """
    agreeing = {name for name, difference in found.items() if difference <= limit}
    leads_back: set[str] = set()  # values that agree, or that something agreeing is computed from
    for node in reversed(nodes):
        if not leads_back.isdisjoint(node.outputs) or not agreeing.isdisjoint(node.outputs):
            leads_back.update(node.inputs)
    for node in nodes:
        known = [found[name] for name in node.outputs if name in found]
        if known and max(known) > limit and leads_back.isdisjoint(node.outputs):
            read = [found[name] for name in node.inputs if name in found]
            return Divergence(node.name, node.operation, max(known), max(read) if read else None)
    return None


def explain_task(candidate: dict[str, Any], reference: dict[str, Any], images: str) -> dict[str, Any]:
    """Worker task: compare the layers of an ONNX or Keras file with those of the model that it comes from.

    Args:
        candidate, reference: `Candidate.to_dict()`; the runtime of the first tells its `operations`.
        images: path of an .npy file, uint8 `(n, H, W, 3)`.

    Returns:
        `first`, a `Divergence` or None, the `limit`, and `layers`: each node with its difference.
    """
    examined, compared = Candidate.from_dict(candidate), Candidate.from_dict(reference)
    pixels = np.load(Path(images))
    with compared.open() as runtime:
        expected = runtime.layers(pixels)
        same_names = runtime.artifact.model_path.suffix == ".onnx"
    with examined.open() as runtime:
        values = runtime.layers(pixels)
        limit = LIMITS[runtime.artifact.manifest.precision]
        nodes = [Node(*operation) for operation in runtime.operations()]
    found = differences(expected, values, same_names)
    first = first_divergence(nodes, found, limit)
    layers = [
        {"layer": node.name, "operation": node.operation, "difference": max(found[name] for name in node.outputs)}
        for node in nodes
        if node.outputs and all(name in found for name in node.outputs)
    ]
    return {"first": asdict(first) if first else None, "limit": limit, "layers": layers}


def _relative(value: Values, other: Values) -> float:
    """The norm of the difference by that of `other`; what is not a number is as far away as can be."""
    difference = float(np.linalg.norm(value.astype(np.float64) - other))
    scale = float(np.linalg.norm(other.astype(np.float64)))
    return min(difference / max(scale, 1e-12), 1e9) if np.isfinite(difference) else 1e9
