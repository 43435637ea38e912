"""One recipe on both engines: how long each trains, and what the models are worth on the test split.

    PEREGRINE_DATA=… python benchmarks/engines.py [--recipe sprint-quick] [--seeds 3] [--out results.json]

The recipe is run as it is on its own engine and, with nothing but `engine` changed, on the other. Seeds are
interleaved, each run in a process of its own. Times are `training_seconds` of the summary: the loop and its
augmentation. Test accuracy is that of the best epoch on validation, and chooses nothing here.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ENGINES = ("pytorch", "tensorflow")


def run(engine: str, name: str, seed: int) -> dict[str, Any]:
    """Train and judge one model here."""
    import peregrine
    from peregrine.files import read_json

    recipe = peregrine.load_recipe(name, {"engine": engine, "seed": seed})
    splits = peregrine.load_dataset("cifar10")
    with tempfile.TemporaryDirectory() as folder:
        artifact = peregrine.train(splits, recipe, run=Path(folder) / "run")
        summary = read_json(Path(folder) / "run" / "results" / "training_summary.json")
        accuracy = peregrine.evaluate(artifact)["accuracy"]
    return {
        "engine": engine,
        "seed": seed,
        "test_accuracy": accuracy,
        "training_seconds": summary["training_seconds"],
        "precision": summary["precision"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="sprint-quick", help="name or file (sprint-quick)")
    parser.add_argument("--seeds", type=int, default=3, help="runs on each engine (3)")
    parser.add_argument("--out", type=Path, help="write all rows as JSON")
    parser.add_argument("--only", nargs=2, metavar=("ENGINE", "SEED"), help="run one here and print its row")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run(arguments.only[0], arguments.recipe, int(arguments.only[1]))))
        return 0

    from peregrine import host

    rows = []
    for seed in range(arguments.seeds):
        for engine in ENGINES:
            command = [sys.executable, __file__, "--recipe", arguments.recipe, "--only", engine, str(seed)]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(ended.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr)
    print(f"{host.processor()}, {host.threads()} threads; {arguments.recipe}, {arguments.seeds} seeds")
    seconds, accuracies = {}, {}
    for engine in ENGINES:
        mine = [row for row in rows if row["engine"] == engine]
        seconds[engine] = statistics.median(row["training_seconds"] for row in mine)
        accuracies[engine] = [100 * row["test_accuracy"] for row in mine]
        deviation = statistics.stdev(accuracies[engine]) if len(mine) > 1 else 0.0
        mean = statistics.mean(accuracies[engine])
        print(f"{engine:12} {seconds[engine]:7.1f} s (median)   test {mean:.2f}%, standard deviation {deviation:.2f}")
    print(f"time, tensorflow / pytorch: {seconds['tensorflow'] / seconds['pytorch']:.2f}")
    gap = statistics.mean(accuracies["tensorflow"]) - statistics.mean(accuracies["pytorch"])
    print(f"accuracy, tensorflow - pytorch: {gap:+.2f} points")
    if arguments.out:
        content = {"host": host.describe(), "versions": host.versions(), "recipe": arguments.recipe, "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
