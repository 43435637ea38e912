"""One tiny trained run per engine and one Artifact per edge, made when first asked for and then shared."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import small_runs
from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset, Splits
from peregrine.export import routes
from peregrine.export.base import convert_task
from peregrine.export.samples import draw
from peregrine.rundir import RunDirectory
from peregrine.stages.training import train

ANCESTORS = {"keras": "tensorflow", "torch": "pytorch"}  # format -> engine


def ancestor_of(format: str) -> str:
    """The first ancestor's format that can become `format`."""
    return next(ancestor for ancestor in ANCESTORS if format == ancestor or format in routes.reachable(ancestor))


def engine_marks(engine: str) -> list[pytest.MarkDecorator]:
    """Marks that keep everything about one engine in one process, where it is trained once."""
    return [
        pytest.mark.xdist_group(f"contract-{engine}"),
        getattr(pytest.mark, {"pytorch": "torch"}.get(engine, engine)),
    ]


@dataclass(frozen=True)
class Trained:
    """A run that is finished, and its data."""

    run: RunDirectory
    artifact: Artifact
    splits: Splits


class Workshop:
    """Makes what a test asks for, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trained: dict[str, Trained] = {}
        self._exported: dict[str, Artifact] = {}

    def trained(self, engine: str) -> Trained:
        if engine not in self._trained:
            small_runs.loaded(engine)
            path, splits = self._folder / engine, small_runs.splits()
            artifact = train(splits, small_runs.recipe(engine), run=path)
            self._trained[engine] = Trained(RunDirectory.open(path), artifact, splits)
        return self._trained[engine]

    def artifact(self, format: str) -> Artifact:
        """Of the format, along the shortest route from an ancestor."""
        ancestor = ancestor_of(format)
        way = routes.route(ancestor, format)
        return self.exported(way[-1].edge) if way else self.trained(ANCESTORS[ancestor]).artifact

    def exported(self, edge: str) -> Artifact:
        """What an edge of the catalogue makes of its source."""
        if edge not in self._exported:
            small_runs.need("edge", edge)
            step = next(step for step in routes.steps() if step.edge == edge)
            path = self._folder / edge
            source = self.artifact(step.source)
            samples = self._samples(source) if step.calibrates else None
            convert_task(edge, str(source.path), str(path), step.target, samples)
            self._exported[edge] = Artifact.open(path)
        return self._exported[edge]

    def _samples(self, source: Artifact) -> str:
        """A file with images to calibrate with and to judge by."""
        path, splits = self._folder / f"samples-{source.root_id[:8]}.npz", small_runs.splits()

        def answer(part: Dataset) -> Probabilities:
            with default_candidate(source).open() as runtime:
                return runtime.predict(part.images)

        draw(splits.train, splits.validation, answer, least_agreement=0.97, most_drop_points=0.5).save(path)
        return str(path)
