"""`peregrine report`."""

from pathlib import Path
from typing import Annotated

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine report runs/photos\n\n"
    "peregrine report runs/photos --watch    while another terminal trains"
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page to this machine, always as the run is now, until Ctrl-C.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Write one HTML page that tells everything about a run and opens offline, and a model card."""
    from peregrine.rundir import RunDirectory

    directory = RunDirectory.open(run)
    if watch:

        def ready(url: str) -> None:
            output.line(f"{url}  follows {directory.path}; Ctrl-C ends it")
            if json:
                output.as_json({"url": url})

        catalog.load("stage", "watch")(directory, ready)
    with showing():
        page = catalog.load("stage", "report")(directory)
    output.line(str(page))
    if json:
        card = directory.card_path
        output.as_json({"report": page, "model_card": card if card.is_file() else None})
