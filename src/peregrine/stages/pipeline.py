"""The whole way: train, evaluate, export, prove, benchmark, choose, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import files, host
from peregrine.dataset import Splits
from peregrine.export.routes import reachable
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages import benchmarking, outcomes
from peregrine.stages.benchmarking import benchmark_run
from peregrine.stages.choosing import choose_best
from peregrine.stages.evaluating import evaluate_part
from peregrine.stages.exporting import export_and_prove
from peregrine.stages.outcomes import Export
from peregrine.stages.reporting import report
from peregrine.stages.target import Target
from peregrine.stages.training import TRAINING, ancestor_of_run

# What can be the fastest on a processor, and on a GPU. OpenVINO runs the ONNX file as fast as its own format.
FAST_ON_CPU = ("onnx", "onnx-int8", "openvino-int8")
FAST_ON_GPU = ("tensorrt", "tensorrt-fp16", "tensorrt-int8")


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: its folder, and the content of its result files; None where a part was skipped.

    Attributes:
        left_out: formats that can be made, and cannot be the fastest on this machine.
    """

    run: Path
    training: dict[str, Any]
    evaluation: dict[str, Any] | None
    exports: list[Export]
    left_out: list[str]
    benchmark: dict[str, Any] | None
    best: dict[str, Any] | None
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
    thorough: bool = False,
) -> RunSummary:
    """Everything from labelled images to a report; the other arguments are those of `train`.

    Of several workers, all train, and the first does the rest.

    Args:
        skip_training: take the model that the recipe's `load_model` names, as it is.
        skip_inference: train only: no evaluation on test, no exports, no benchmark, no choice of the best.
        skip_visualization: neither pictures nor the report's page.
        thorough: export every format that can be made, not only those that can win on this machine, measure longer, and
            measure the robustness under corruptions.

    Raises:
        CheckFailed: an fp32 export could not be built or predicts something else, or a Candidate crashed or answered
            otherwise while it was measured; everything else is done and reported first.
    """
    summary = attempt(
        splits,
        recipe,
        run=run,
        resume=resume,
        changes=changes,
        time_budget=time_budget,
        skip_training=skip_training,
        skip_inference=skip_inference,
        skip_visualization=skip_visualization,
        thorough=thorough,
    )
    refuse(summary)
    return summary


def refuse(summary: RunSummary) -> None:
    """Raise for an fp32 export that came to nothing, else for a Candidate that failed a check of the benchmark.

    Raises:
        CheckFailed: as `run`.
    """
    outcomes.refuse(summary.exports, everything=True)
    if summary.benchmark:
        benchmarking.refuse(summary.benchmark)


def attempt(
    splits: Splits,
    recipe: Recipe | str | Path | None,
    *,
    skip_inference: bool,
    skip_visualization: bool,
    thorough: bool,
    **request: Any,
) -> RunSummary:
    """`run` without an error for what failed a check: so that what did succeed can be told first."""
    if host.rank():
        skip_inference = skip_visualization = True
    pictures = not skip_visualization
    ancestor = ancestor_of_run(splits, recipe, pictures=pictures, **request)
    directory = RunDirectory.open(ancestor.path.parent.parent)
    evaluation = benchmark = best = page = None
    exports: list[Export] = []
    left_out: list[str] = []
    with directory.lock():
        with directory.verb("run"):
            loaded = TRAINING in directory.read().get("skipped", [])
            flags = {TRAINING: loaded, "inference": skip_inference, "visualization": skip_visualization}
            directory.update(skipped=[name for name, skipped in flags.items() if skipped])
            if not skip_inference:
                target = Target(ancestor, directory, whole_run=True)
                judged = target.own_splits(splits)
                test = judged.test
                with directory.verb("evaluate", within="run"):
                    evaluation = evaluate_part(
                        target,
                        test,
                        "test",
                        None,
                        record=True,
                        pictures=pictures,
                        validation=judged.validation,
                        robustness=thorough,
                    )
                formats = reachable(ancestor.manifest.format)
                wanted = formats if thorough else winners(formats)
                left_out = [name for name in formats if name not in wanted]
                with directory.verb("export", within="run"):
                    exports = export_and_prove(target, judged, wanted)
                with directory.verb("benchmark", within="run"):
                    benchmark = benchmark_run(target, test, judged.source, quick=not thorough, pictures=pictures)
                with directory.verb("best", within="run"):
                    best = choose_best(target, judged)
        if not skip_visualization:
            page = report(directory)  # now that the record tells that the run is done
    training = files.read_json(directory.results / "training_summary.json")
    return RunSummary(directory.path, training, evaluation, exports, left_out, benchmark, best, page)


def winners(formats: Sequence[str]) -> list[str]:
    """Those of the formats that can be the fastest on this machine."""
    fast = FAST_ON_CPU if host.find_gpu() is None else (*FAST_ON_CPU, *FAST_ON_GPU)
    return [name for name in formats if name in fast]
