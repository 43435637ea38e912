"""The whole way: train, evaluate, export, prove, benchmark, report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.dataset import Splits
from peregrine.export.routes import reachable
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages.benchmarking import benchmark_candidates
from peregrine.stages.evaluating import evaluate_part
from peregrine.stages.exporting import Export, export_and_prove, is_fp32, refuse_failed
from peregrine.stages.reporting import report
from peregrine.stages.target import Target
from peregrine.stages.training import train


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: its folder, and the content of its result files."""

    run: Path
    training: dict[str, Any]
    evaluation: dict[str, Any]
    exports: list[Export]
    benchmark: dict[str, Any]
    report: Path


def run(
    splits: Splits,
    recipe: Recipe | str | Path,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Everything from labelled images to a report; the arguments are those of `train`.

    Raises:
        CheckFailed: an fp32 export could not be built or predicts something else; everything else is done and reported
            first.
    """
    ancestor = train(splits, recipe, run=run, resume=resume, changes=changes)
    directory = RunDirectory.open(ancestor.path.parent.parent)
    target = Target(ancestor, directory, whole_run=True)
    test = target.splits(splits).test
    with directory.lock(), directory.verb("run"):
        with directory.verb("evaluate", within="run"):
            evaluation = evaluate_part(target, test, "test", None, record=True)
        with directory.verb("export", within="run"):
            exports = export_and_prove(target, test, reachable(ancestor.manifest.format))
        with directory.verb("benchmark", within="run"):
            rows = benchmark_candidates(directory, directory.artifacts(), test)
        page = report(directory)
    refuse_failed([outcome for outcome in exports if is_fp32(outcome)])
    training = files.read_json(directory.results / "training_summary.json")
    return RunSummary(directory.path, training, evaluation, exports, rows, page)
