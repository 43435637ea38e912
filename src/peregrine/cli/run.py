"""`peregrine run`: the whole way."""

from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog, host
from peregrine.cli import options, output
from peregrine.cli.benchmark import print_benchmark
from peregrine.cli.best import print_best
from peregrine.cli.classic import classic_recipe, strategy_changes
from peregrine.cli.display import showing
from peregrine.cli.evaluate import print_evaluation
from peregrine.cli.export import print_exports
from peregrine.cli.train import parse_settings, training_request
from peregrine.errors import UsageError

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine run --data digits\n\n"
    "peregrine run --data cifar10 --recipe sprint-quick\n\n"
    "peregrine run --data photos/ --set epochs=20\n\n"
    "peregrine run --resume\n\n"
    "[bold]With classic flags[/bold]: a TensorFlow network, Adam, .h5 checkpoints\n\n"
    "peregrine run --data cifar10 --epochs 20 --batch-size 256\n\n"
    "peregrine run --data cifar10 --model-type cnn --skip-inference\n\n"
    "peregrine run --data cifar10 --load-model runs/x/checkpoints/best_model.h5 --epochs 5\n\n"
    "peregrine run --data cifar10 --load-model runs/x --skip-training\n\n"
    "peregrine run --data cifar10 --model-type resnet --strategy mirrored --num-gpus 2"
)
CLASSIC = "Classic flags"


def command(
    data: options.Data = None,
    recipe: options.Recipe = None,
    run: options.Run = None,
    settings: options.Set = None,
    strategy: options.Strategy = None,
    num_gpus: options.Gpus = None,
    devices: options.Devices = None,
    time_budget: options.TimeBudget = None,
    resume: options.Resume = False,
    max_bad: options.MaxBad = "1%",
    model_type: Annotated[
        str | None,
        typer.Option(
            metavar="resnet|cnn|efficientnet",
            help="The recipe of this network; resnet where --epochs, --batch-size or --learning-rate stand alone.",
            rich_help_panel=CLASSIC,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="As --set epochs=N. resnet: 100, cnn: 50.", rich_help_panel=CLASSIC),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="As --set batch_size=N. resnet: 128, cnn: 256.", rich_help_panel=CLASSIC),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="As --set optimizer.learning_rate=X. resnet: 0.001, cnn: 0.0001.",
            rich_help_panel=CLASSIC,
        ),
    ] = None,
    load_model: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Go on from a checkpoint, an artifact or a run, by its own recipe unless one is named.",
            rich_help_panel=CLASSIC,
        ),
    ] = None,
    skip_training: Annotated[
        bool, typer.Option("--skip-training", help="Take --load-model as it is.", rich_help_panel=CLASSIC)
    ] = False,
    skip_inference: Annotated[
        bool,
        typer.Option(
            "--skip-inference", help="No evaluation on test, no exports, no benchmark.", rich_help_panel=CLASSIC
        ),
    ] = False,
    skip_visualization: Annotated[
        bool, typer.Option("--skip-visualization", help="No pictures, no report page.", rich_help_panel=CLASSIC)
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Export every format, not only those that can win on this machine, measure longer, and on corrupted "
            "images too.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Train, evaluate, export, prove, benchmark, choose, report: one command from labelled images to a classifier."""
    flags = {"epochs": epochs, "batch_size": batch_size, "optimizer.learning_rate": learning_rate}
    flags = {key: value for key, value in flags.items() if value is not None}
    if skip_training and flags:
        given = ", ".join(f"{key}={value}" for key, value in flags.items())
        raise UsageError(f"--skip-training trains nothing; got {given}; leave out the one or the other")
    with showing():
        chosen, changes = classic_recipe(recipe, model_type, load_model, flags)
        changes |= strategy_changes(strategy, num_gpus, devices) | parse_settings(settings)
        request = training_request(data, chosen, run, changes, time_budget, resume, max_bad)
        summary = catalog.load("stage", "run")(
            **request,
            skip_training=skip_training,
            skip_inference=skip_inference,
            skip_visualization=skip_visualization,
            thorough=thorough,
        )
    if host.rank():
        output.line(f"worker {host.rank()} is done; the run is where worker 0 was started")
        return
    _print(summary)
    from peregrine.stages.outcomes import to_dict
    from peregrine.stages.pipeline import refuse

    if json:
        output.as_json({
            "run": summary.run,
            "report": summary.report,
            "training": summary.training,
            "evaluation": summary.evaluation,
            "exports": [to_dict(outcome) for outcome in summary.exports],
            "left_out": summary.left_out,
            "benchmark": summary.benchmark,
            "best": summary.best,
        })  # fmt: skip
    refuse(summary)  # after everything else


def _print(summary: Any) -> None:
    training = summary.training
    output.line()
    who = f"{training['model']} ({training['engine']}"
    if training["epochs"]:
        output.line(
            f"Trained {who}, {training['precision']}) for {training['epochs']} epochs "
            f"in {training['training_seconds']:.1f} s, {training['images_per_s']:,.0f} images/s."
        )
    else:
        output.line(f"Took {who}) from {training['loaded_from']}, without training.")
    if summary.evaluation:
        print_evaluation(summary.evaluation)
    print_exports(summary.exports)
    if summary.left_out:
        output.line(f"Not exported, as they cannot be the fastest here: {', '.join(summary.left_out)}; see --thorough")
    if summary.benchmark:
        print_benchmark(summary.benchmark)
    if summary.best:
        print_best(summary.best)
    output.line(f"Report: {summary.report}" if summary.report else f"Run: {summary.run}")
