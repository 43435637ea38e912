"""Data four times as large as the memory for it, streamed from the store, against the same data resident in memory.

    PEREGRINE_DATA=… python benchmarks/streaming.py [--recipe sprint-quick --recipe cnn] [--seeds 3] [--data cifar10]
        [--set epochs=8 …] [--out X.json]

The data is exported to Parquet first, so that both read the same store, mapped from disk. Streamed and resident runs of
a seed follow each other, each in a process of its own; what comes first changes from seed to seed. `speed` is the
resident run's seconds of training over the streamed one's: the steps with their augmentation, and with the waiting for
data; what feeding costs is what it lacks to 1. Accuracy is of the validation split, in percent. Memory is the process's
peak, with all libraries. The exit status is 1 where a recipe's median speed is below 0.9, or where its mean accuracies
differ by more than two standard errors of that difference.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peregrine import host

KINDS = ("resident", "streamed")
LARGER = 4  # than the memory for it
LEAST = 0.9
Row = dict[str, Any]


def train(recipe: str, changes: Sequence[str], data: str, seed: int) -> Row:
    """One run, in this process."""
    import peregrine
    from peregrine import files

    settings = {key: json.loads(value) for key, value in (change.split("=", 1) for change in changes)}
    settings |= {"seed": seed, "callbacks.tensorboard": False}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        peregrine.train(peregrine.load_dataset(data), peregrine.load_recipe(recipe, settings), run=run)
        summary = files.read_json(run / "results" / "training_summary.json")
        history = files.read_json(run / "results" / "training_history.json")
    return {
        "training_seconds": summary["training_seconds"],
        "accuracy": 100 * history[-1]["val_accuracy"],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "engine": summary["engine"],
    }


def measure(kind: str, bytes_of_data: int, arguments: Sequence[str]) -> Row:
    """One run in a process of its own, whose memory for data is as large as four of it, or a quarter."""
    room = bytes_of_data * LARGER if kind == "resident" else bytes_of_data / LARGER
    environment = {**os.environ, "PEREGRINE_RESIDENT_GIB": f"{room / 2**30:.6f}"}
    command = [sys.executable, __file__, "--only", *arguments]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(ended.stdout.splitlines()[-1])
    return row


def exported(data: str, folder: Path) -> Path:
    """The data as Parquet, prepared."""
    import peregrine
    from peregrine.data.base import Options
    from peregrine.data.exporting import export

    export(data, "parquet", folder, Options())
    peregrine.load_dataset(folder)
    return folder


def training_bytes(data: Path) -> int:
    """Of the pixels that are trained on."""
    import peregrine

    images = peregrine.load_dataset(data).train.images
    return int(0.9 * images.nbytes)  # a tenth is for validation


def compared(rows: Sequence[Row]) -> Row:
    """What the runs of a recipe come to."""
    seconds, accuracies = (
        {kind: [row[what] for row in rows if row["kind"] == kind] for kind in KINDS}
        for what in ("training_seconds", "accuracy")
    )
    speeds = [one / other for one, other in zip(seconds["resident"], seconds["streamed"], strict=True)]
    difference = statistics.mean(accuracies["streamed"]) - statistics.mean(accuracies["resident"])
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in accuracies.values()]
    allowed = 2 * (sum(each**2 for each in spread) / len(speeds)) ** 0.5
    return {
        "speed": statistics.median(speeds),
        "speeds": speeds,
        "accuracy": {kind: statistics.mean(values) for kind, values in accuracies.items()},
        "accuracy_deviation": dict(zip(accuracies, spread, strict=True)),
        "accuracy_difference": difference,
        "passed": statistics.median(speeds) >= LEAST and (len(speeds) < 2 or abs(difference) <= allowed),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", action="append", help="to train; may come again (sprint-quick and cnn)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on (3)")
    parser.add_argument("--data", default="cifar10", help="what to train on (cifar10)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a change of all recipes")
    parser.add_argument("--out", type=Path, help="write all runs as JSON")
    parser.add_argument("--only", nargs=2, metavar=("RECIPE", "SEED"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        recipe, seed = asked.only
        print(json.dumps(train(recipe, asked.set, asked.data, int(seed))))
        return 0

    print(f"{time.strftime('%Y-%m-%d')}, {host.threads()} threads of {host.processor()}", file=sys.stderr)
    rows: list[Row] = []
    changes = [part for change in asked.set for part in ("--set", change)]
    with tempfile.TemporaryDirectory(prefix="peregrine-streaming-") as folder:
        os.environ["PEREGRINE_CACHE"] = f"{folder}/cache"
        data = exported(asked.data, Path(folder) / "data")
        size = training_bytes(data)
        recipes = asked.recipe or ["sprint-quick", "cnn"]
        for seed in range(asked.seeds):
            for recipe in recipes:
                for kind in KINDS if seed % 2 == 0 else reversed(KINDS):
                    row = measure(kind, size, [recipe, str(seed), "--data", str(data), *changes])
                    rows.append({"recipe": recipe, "seed": seed, "kind": kind, **row})
                    print(json.dumps(rows[-1]), file=sys.stderr)

    results = {recipe: compared([row for row in rows if row["recipe"] == recipe]) for recipe in recipes}
    print(f"{'':16}{'kind':10}{'seconds':>9}{'accuracy':>10}{'spread':>8}{'MiB':>7}{'speed':>8}")
    for recipe, result in results.items():
        for kind in KINDS:
            ours = [row for row in rows if (row["recipe"], row["kind"]) == (recipe, kind)]
            seconds, memory = (
                statistics.median(row[what] for row in ours) for what in ("training_seconds", "peak_memory_mib")
            )
            accuracy, spread = result["accuracy"][kind], result["accuracy_deviation"][kind]
            speed = f"{result['speed']:8.1%}" if kind == "streamed" else ""
            print(f"{recipe:16}{kind:10}{seconds:9.1f}{accuracy:10.2f}{spread:8.2f}{memory:7,.0f}{speed}")
    if asked.out:
        about = {"machine": host.describe(), "versions": host.versions(), "data": asked.data, "bytes": size}
        asked.out.write_text(json.dumps({**about, "rows": rows, "results": results}, indent=2))
    return any(not result["passed"] for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
