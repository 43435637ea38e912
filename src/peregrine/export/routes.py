"""The shortest route from one format to another, over the edges of the catalogue."""

from collections import deque
from dataclasses import dataclass

from peregrine import catalog
from peregrine.errors import UsageError
from peregrine.formats import find_format


@dataclass(frozen=True)
class Step:
    """One edge of a route: its key in the catalogue and the formats it joins."""

    edge: str
    source: str
    target: str

    @property
    def calibrates(self) -> bool:
        """Whether it goes to INT8 from more, and so needs images."""
        target = find_format(self.target)
        return target.precision == "int8" != find_format(self.source).precision and not target.dynamic


def steps() -> list[Step]:
    """All edges: `torch_to_onnx_fp16` joins `torch` and `onnx-fp16`."""
    found = []
    for edge in catalog.CATALOG["edge"]:
        source, _, target = edge.partition("_to_")
        found.append(Step(edge, source.replace("_", "-"), target.replace("_", "-")))
    return found


def reachable(source: str) -> list[str]:
    """Formats that `source` can become, the nearest first."""
    return [format for format in _routes(source) if format != source]


def route(source: str, target: str) -> list[Step]:
    """The fewest conversions from `source` to `target`, in order; empty when they are the same.

    Raises:
        UsageError: there is no way.
    """
    routes = _routes(source)
    if target not in routes:
        possible = ", ".join(reachable(source)) or "nothing else"
        raise UsageError(f"{source} cannot become {target}; it can become {possible}")
    return routes[target]


def takes_static(source: str, target: str) -> bool:
    """Whether a model on its way from `source` to `target` can be given a static batch: ONNX, and what follows it."""
    way = route(source, target)
    return is_fixable(target) or (bool(way) and is_fixable(way[-1].source))


def is_fixable(format: str) -> bool:
    """Whether a file of this format can be written again for batches of one size; others take that of their source."""
    return find_format(format).file in catalog.CATALOG["static"]


def _routes(source: str) -> dict[str, list[Step]]:
    """Breadth first, so the first route found to a format is a shortest one."""
    routes: dict[str, list[Step]] = {source: []}
    queue = deque([source])
    while queue:
        here = queue.popleft()
        for step in steps():
            if step.source == here and step.target not in routes:
                routes[step.target] = [*routes[here], step]
                queue.append(step.target)
    return routes
