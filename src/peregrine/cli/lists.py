"""`peregrine runs`, `recipes`, `models` and `formats`: what there is."""

from pathlib import Path
from typing import Annotated

import typer

from peregrine import catalog
from peregrine.cli import options, output


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of the runs.")] = Path("runs"),
    json: options.Json = False,
) -> None:
    """List runs, the newest last, with how they ended."""
    from peregrine.rundir import list_runs

    found = [directory.overview() for directory in list_runs(folder)]
    rows = [
        [row["run"], row["status"], row["data"], row["recipe"], output.percent(row["accuracy"])]
        for row in found
    ]  # fmt: skip
    if rows:
        output.table(["run", "status", "data", "recipe", "test accuracy"], rows)
    else:
        output.line(f"no runs in {folder}; make one with: peregrine run --data digits")
    if json:
        output.as_json({"runs": found})


def recipes(json: options.Json = False) -> None:
    """List the recipes that come with Peregrine."""
    from peregrine.recipe import load_recipe, recipe_names

    found = [load_recipe(name) for name in recipe_names()]
    rows = [
        [recipe.name, recipe.engine, recipe.model.name, str(recipe.epochs), str(recipe.batch_size), recipe.summary]
        for recipe in found
    ]
    output.table(["recipe", "engine", "model", "epochs", "batch", "what it is"], rows)
    if json:
        output.as_json({"recipes": [recipe.to_dict() for recipe in found]})


def models(json: options.Json = False) -> None:
    """List the networks, by engine."""
    found = [
        {"engine": key.partition("/")[0], "model": key.partition("/")[2], "summary": entry.summary}
        for key, entry in catalog.CATALOG["model"].items()
    ]
    output.table(["model", "engine", "what it is"], [[row["model"], row["engine"], row["summary"]] for row in found])
    if json:
        output.as_json({"models": found})


def formats(json: options.Json = False) -> None:
    """List the formats, with what each is built from, which runtimes open it, and what is missing here."""
    states = catalog.load("stage", "formats")()
    rows = [
        [
            state.name,
            state.precision,
            ", ".join(state.built_from),
            ", ".join(state.runtimes),
            f"peregrine[{', '.join(state.missing)}]" if state.missing else "–",
            state.summary,
        ]
        for state in states
    ]
    output.table(["format", "precision", "built from", "runtimes", "missing", "what it is"], rows)
    if json:
        output.as_json({"formats": [vars(state) for state in states]})
