"""The command line: one file per verb, each parses, calls one stage through the catalogue, and prints.

Nothing heavy is imported here or by the verbs' files; what a verb needs comes when it runs.
"""

import typer

from peregrine.cli import (
    benchmark,
    best,
    compare,
    data,
    doctor,
    evaluate,
    export,
    importing,
    lists,
    predict,
    report,
    run,
    train,
)

app = typer.Typer(
    name="peregrine",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled images to the fastest classifier that is still provably right.",
    epilog="Start with [bold]peregrine run --data digits[/bold]: everything, offline, in about a minute. "
    "--debug, anywhere, shows tracebacks.",
)


def _version(value: bool) -> None:
    if value:
        from peregrine import __version__

        typer.echo(f"peregrine {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


app.command("run", epilog=run.EXAMPLES)(run.command)
app.command("train", epilog=train.EXAMPLES)(train.command)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.command)
app.command("export", epilog=export.EXAMPLES)(export.command)
app.command("import", epilog=importing.EXAMPLES)(importing.command)
app.command("benchmark", epilog=benchmark.EXAMPLES)(benchmark.command)
app.command("best", epilog=best.EXAMPLES)(best.command)
app.command("compare", epilog=compare.EXAMPLES)(compare.command)
app.command("predict", epilog=predict.EXAMPLES)(predict.command)
app.command("report", epilog=report.EXAMPLES)(report.command)
app.command("runs")(lists.runs)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.command)
app.command("recipes")(lists.recipes)
app.command("models")(lists.models)
app.command("formats")(lists.formats)
