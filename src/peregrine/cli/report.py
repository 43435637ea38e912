"""`peregrine report`."""

from pathlib import Path
from typing import Annotated

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = "[bold]Example[/bold]\n\nperegrine report runs/photos"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run.")],
    json: options.Json = False,
) -> None:
    """Write one HTML page that tells everything about a run and opens offline."""
    from peregrine.rundir import RunDirectory

    with showing():
        page = catalog.load("stage", "report")(RunDirectory.open(run))
    output.line(str(page))
    if json:
        output.as_json({"report": page})
