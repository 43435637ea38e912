"""The report of a run: one HTML file that opens offline, and a model card, made from the run's result files alone."""

from pathlib import Path

from peregrine import files
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting.card import model_card
from peregrine.stages.reporting.content import gather
from peregrine.stages.reporting.page import render


def report(run: RunDirectory | str | Path) -> Path:
    """Write the run's `report.html` and, once there is a model, `model_card.md`; return the page's path.

    What has not been done yet is named, with the command that does it.

    Raises:
        UsageError: there is no run.
        DamagedFile: a result file is not JSON; the message names it.
    """
    directory = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    content = gather(directory)
    files.write_text(directory.report_path, render(content))
    if content["training"] or content["imported"]:
        files.write_text(directory.card_path, model_card(content))
    return directory.report_path
