"""The whole way: train, evaluate, export, prove, benchmark, report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import files, host
from peregrine.dataset import Splits
from peregrine.export.routes import reachable
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages.benchmarking import benchmark_candidates
from peregrine.stages.evaluating import evaluate_part
from peregrine.stages.exporting import Export, export_and_prove, is_fp32, refuse_failed
from peregrine.stages.reporting import report
from peregrine.stages.target import Target
from peregrine.stages.training import TRAINING, ancestor_of_run


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: its folder, and the content of its result files; None where a part was skipped."""

    run: Path
    training: dict[str, Any]
    evaluation: dict[str, Any] | None
    exports: list[Export]
    benchmark: dict[str, Any] | None
    report: Path | None


def run(
    splits: Splits,
    recipe: Recipe | str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    time_budget: float | None = None,
    skip_training: bool = False,
    skip_inference: bool = False,
    skip_visualization: bool = False,
) -> RunSummary:
    """Everything from labelled images to a report; the other arguments are those of `train`.

    Of several workers, all train, and the first does the rest.

    Args:
        skip_training: take the model that the recipe's `load_model` names, as it is.
        skip_inference: train only: no evaluation on test, no exports, no benchmark.
        skip_visualization: neither pictures nor the report's page.

    Raises:
        CheckFailed: an fp32 export could not be built or predicts something else; everything else is done and reported
            first.
    """
    if host.rank():
        skip_inference = skip_visualization = True
    pictures = not skip_visualization
    ancestor = ancestor_of_run(
        splits,
        recipe,
        run=run,
        resume=resume,
        changes=changes,
        time_budget=time_budget,
        skip_training=skip_training,
        pictures=pictures,
    )
    directory = RunDirectory.open(ancestor.path.parent.parent)
    evaluation = benchmark = page = None
    exports: list[Export] = []
    with directory.lock():
        with directory.verb("run"):
            loaded = TRAINING in directory.read().get("skipped", [])
            flags = {TRAINING: loaded, "inference": skip_inference, "visualization": skip_visualization}
            directory.update(skipped=[name for name, skipped in flags.items() if skipped])
            if not skip_inference:
                target = Target(ancestor, directory, whole_run=True)
                judged = target.splits(splits)
                test = judged.test
                with directory.verb("evaluate", within="run"):
                    evaluation = evaluate_part(target, test, "test", None, record=True, pictures=pictures)
                with directory.verb("export", within="run"):
                    exports = export_and_prove(target, judged, reachable(ancestor.manifest.format))
                with directory.verb("benchmark", within="run"):
                    benchmark = benchmark_candidates(directory, directory.artifacts(), test, pictures=pictures)
        if not skip_visualization:
            page = report(directory)  # now that the record tells that the run is done
    refuse_failed([outcome for outcome in exports if is_fp32(outcome)])
    training = files.read_json(directory.results / "training_summary.json")
    return RunSummary(directory.path, training, evaluation, exports, benchmark, page)
