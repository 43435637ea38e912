"""Options that several verbs share, so that they are spelt and explained the same."""

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[str, typer.Argument(metavar="RUN|ARTIFACT", help="A run, or an artifact inside or outside one.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="SRC", help="cifar10, digits, hf://owner/name, a folder or a file; see peregrine data --help."
    ),
]
OwnData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="Judge on this data instead of the run's own: its test split, or all where it has none.",
    ),
]
MovedData = Annotated[
    str | None,
    typer.Option("--data", metavar="SRC", help="Where the run's data is, if the run cannot tell: the same images."),
]
Run = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Folder of the run. Default: a new one in runs/.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run: the one in --run, or the newest in runs/.")
]
Recipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="A recipe of `peregrine recipes`, or a TOML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key, as in optimizer.learning_rate=0.1. Repeat."),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--time-budget",
        metavar="TIME",
        help="Train for so long, as 90s, 5m or 1h: picks epochs and image sizes, and without --recipe the network.",
    ),
]
MaxBad = Annotated[str, typer.Option("--max-bad", metavar="SHARE", help="Unreadable images tolerated, as 1% or 0.01.")]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="auto|none|mirrored|multiworker",
        help="How TensorFlow spreads the work over devices; the same as --set strategy.name=…",
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option("--num-gpus", min=1, max=99, metavar="N", help="Train on the first N GPUs: --devices gpu:N."),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="KIND:N",
        help="gpu:2 takes two GPUs, cpu:2 makes two devices of the CPU; as strategy.devices.",
    ),
]
Runtime = Annotated[
    str | None, typer.Option("--runtime", metavar="NAME", help="Run the model by this runtime of `peregrine formats`.")
]
Json = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object.")]
