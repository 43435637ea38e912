"""`peregrine benchmark`."""

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.run import print_benchmark

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine benchmark runs/photos\n\n"
    "peregrine benchmark runs/photos/artifacts/onnx --json"
)  # fmt: skip


def command(target: options.Target, data: options.OwnData = None, json: options.Json = False) -> None:
    """Measure latency, throughput and the seconds for the test split, every candidate in a process of its own."""
    with showing():
        result = catalog.load("stage", "benchmark")(target, data=data)
    print_benchmark(result)
    if json:
        output.as_json(result)
