"""`peregrine train`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peregrine import catalog, host
from peregrine.cli import options, output
from peregrine.cli.classic import strategy_changes
from peregrine.cli.display import showing
from peregrine.errors import UsageError

if TYPE_CHECKING:
    from peregrine.recipe import Recipe

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine train --data cifar10 --recipe sprint-quick\n\n"
    "peregrine train --data photos/ --recipe cnn --set epochs=20 --run runs/photos\n\n"
    "peregrine train --data photos/ --recipe cnn --strategy mirrored --num-gpus 2\n\n"
    "peregrine train --data photos/ --time-budget 5m\n\n"
    "peregrine train --resume --run runs/photos"
)


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
    json: options.Json = False,
) -> None:
    """Train one recipe: checkpoints, history and the trained model, in a run folder."""
    changes = strategy_changes(strategy, num_gpus, devices) | parse_settings(settings)
    with showing():
        request = training_request(data, recipe, run, changes, time_budget, resume, max_bad)
        artifact = catalog.load("stage", "train")(**request)
    if host.rank():
        output.line(f"worker {host.rank()} is done; the run is where worker 0 was started")
        return
    summary = read_summary(artifact.path.parent.parent)
    accuracy = output.percent(summary["validation_accuracy"])
    output.line(f"{artifact.path.parent.parent}: {summary['epochs']} epochs in {summary['training_seconds']:.1f} s, "
                f"validation accuracy {accuracy}")  # fmt: skip
    if json:
        output.as_json({"run": artifact.path.parent.parent, "artifact": artifact.path, **summary})


def training_request(
    data: str | None,
    recipe: "str | Recipe | None",
    run: Path | None,
    changes: dict[str, Any],
    time_budget: str | None,
    resume: bool,
    max_bad: str,
) -> dict[str, Any]:
    """The arguments of the stages `train` and `run`: the recipe read, the data loaded at the recipe's size.

    Raises:
        UsageError: a combination that means nothing.
    """
    from peregrine.recipe import Recipe, load_recipe
    from peregrine.rundir import RunDirectory, check_free, newest_unfinished

    if resume:
        if recipe or changes or time_budget:
            raise UsageError(
                "--resume goes on with the run's own recipe; leave out --recipe, --set, --time-budget and classic flags"
            )
        directory = RunDirectory.open(run) if run else newest_unfinished()
        chosen = directory.recipe()
        source = data or directory.read()["data"]["source"]
        if source == "memory":
            raise UsageError(f"{directory.path} was trained on arrays; resume it from Python, with resume=True")
        run = directory.path
    else:
        if run and not _may_be_begun():
            check_free(run)
        source = data or "cifar10"
        if isinstance(recipe, Recipe):
            chosen = recipe.changed(changes)
        else:
            chosen = load_recipe(recipe or ("digits" if source == "digits" else "sprint-quick"), changes)
    seconds = parse_duration(time_budget) if time_budget else None
    size = None if chosen.input.size == "auto" else chosen.input.size
    share = 1.0 if resume else parse_share(max_bad)  # was decided when the run began
    splits = catalog.load("stage", "load")(source, size=size, resize=chosen.input.resize, max_bad=share)
    request = {"splits": splits, "recipe": chosen, "run": run, "resume": resume, "time_budget": seconds}
    # Where nobody named a recipe, training chooses one by the budget, and fits it to the images' size.
    by_default = not resume and not recipe and (seconds or source != "digits")
    return {**request, "recipe": None, "changes": changes} if by_default else request


def _may_be_begun() -> bool:
    """Whether another process of this command, or one before it, may have made the run already."""
    started = host.torchrun()
    return host.rank() > 0 or (started is not None and started.restarts > 0)


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """`--set key=value` options as a mapping of dotted keys."""
    from peregrine.recipe import parse_setting

    return dict(parse_setting(setting) for setting in settings or [])


def parse_share(text: str, flag: str = "--max-bad", such_as: str = "1% or 0.01") -> float:
    """`1%` or `0.01` as 0.01.

    Raises:
        UsageError: neither, or outside 0 to 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{flag} is a share such as {such_as}; got {text!r}")
    return share


def parse_duration(text: str) -> float:
    """`90s`, `5m`, `1h30m` or `300` in seconds.

    Raises:
        UsageError: none of these.
    """
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text)
    try:
        parts = [float(part or 0) for part in found.groups()] if found else []
    except ValueError:
        parts = []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not seconds:
        raise UsageError(f"--time-budget is a time such as 90s, 5m or 1h30m; got {text!r}")
    return seconds


def read_summary(run: Path) -> dict[str, Any]:
    """`training_summary.json` of a run."""
    from peregrine.files import read_json
    from peregrine.rundir import RunDirectory

    summary: dict[str, Any] = read_json(RunDirectory(run).results / "training_summary.json")
    return summary
