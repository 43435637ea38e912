"""One of our recipes against rivals on this machine: seconds of training, test accuracy, and how it grows.

    PEREGRINE_DATA=… python benchmarks/training.py --recipe sprint --rival benchmarks/recipes/airbench94.toml \
        [--rival RECIPE …] [--rival-script SCRIPT …] [--seeds 3] [--data cifar10] [--out results.json]

A rival is a recipe, run by our engine, or a script of somebody's, run as it is (`rival_scripts.py` tells how it says
what it reached). Seeds are interleaved, each run in a process of its own that ends when this one does. A row is written
when its run is done, and the same command again goes on after the last one. Table and picture show all that the file
has: a slow rival may get fewer seeds, by a command of its own with the same --out.

Recipes train with `validation = "test"`: on all training images, the last epoch counts, nothing is chosen; the test
split is judged after each epoch for the curve. Seconds are `training_seconds` of the summary: the steps with their
augmentation, without data preparation, judging and saving. Both accuracies are of the test split: without test-time
augmentation, and with `full`, whose time does not count (airbench's scripts count it in theirs).
"""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import curves
from rival_scripts import Row, run_script

from peregrine import files, host
from peregrine.errors import PeregrineError

RESULTS = Path(__file__).parent / "results"


def recipe_of(name: str, seed: int) -> Any:
    import peregrine

    return peregrine.load_recipe(name, {"validation": "test", "seed": seed, "callbacks.tensorboard": False})


def run_recipe(name: str, data: str, seed: int) -> Row:
    """Train and judge one model in this process."""
    import peregrine

    recipe = recipe_of(name, seed)
    size = None if recipe.input.size == "auto" else recipe.input.size
    splits = peregrine.load_dataset(data, size=size, resize=recipe.input.resize)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        artifact = peregrine.train(splits, recipe, run=run)
        summary = files.read_json(run / "results" / "training_summary.json")
        history = files.read_json(run / "results" / "training_history.json")
        judged = peregrine.evaluate(artifact, data=splits, tta="full")
    seconds = itertools.accumulate(row["seconds"] for row in history)
    return {
        "training_seconds": summary["training_seconds"],
        "accuracy": judged["without_tta"]["accuracy"],
        "accuracy_tta": judged["accuracy"],
        "curve": [[when, row["val_accuracy"]] for when, row in zip(seconds, history, strict=True)],
        "precision": summary["precision"],
        "device": device(recipe.engine),
    }


def device(engine: str) -> str:
    if engine == "pytorch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    return "cpu"


def in_child(contender: str, data: str, seed: int) -> None:
    """Run one contender, print its row as the last line; leave with everything below when the parent is gone."""

    def watch() -> None:
        sys.stdin.read()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    script = contender.endswith(".py")
    row = run_script(Path(contender).resolve()) if script else run_recipe(contender, data, seed)
    print(json.dumps({**row, "host": host.describe(), "versions": host.versions()}))


def measure(contender: str, data: str, seed: int) -> Row:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--data", data, "--only", contender, str(seed)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()  # and stdin stays open
    if process.returncode:
        sys.exit(f"{contender}, seed {seed}: status {process.returncode}; the same command goes on here")
    row: Row = json.loads(printed.splitlines()[-1])
    return row


def described(contender: str) -> Row:
    """What has to stay the same when a benchmark goes on."""
    if contender.endswith(".py"):
        return {"script": files.sha256(Path(contender))}
    return {"recipe": {**recipe_of(contender, 0).to_dict(), "seed": "each"}}


def begin(out: Path, contenders: dict[str, str], data: str) -> Row:
    """The file's content: new, or that of a benchmark to go on with.

    Raises:
        SystemExit: the file is of other data, another machine, or another contender of the same name.
    """
    about = {"data": data, "processor": host.processor(), "threads": host.threads()}
    known = {who: described(contender) for who, contender in contenders.items()}
    if not out.exists():
        return {"schema": 1, **about, "contenders": known, "rows": []}
    content: Row = files.read_json(out)
    for key, value in about.items():
        if content[key] != value:
            sys.exit(f"{out} has {key} {content[key]!r}, this is {value!r}; choose another --out")
    for who, wanted in known.items():
        if content["contenders"].setdefault(who, wanted) != wanted:
            sys.exit(f"{out} has rows of another {who}; choose another --out")
    return content


def default_out(ours: str, data: str, runs: list[tuple[str, int]]) -> Path:
    """A new file of today, or the newest one of this theme and machine where runs are missing."""
    machine = re.sub(r"[^a-z0-9]+", "-", f"{host.processor()} {host.threads()} threads".lower()).strip("-")
    theme = f"training-{ours}-{Path(data).stem}_{machine}"
    for path in sorted(RESULTS.glob(f"{theme}_*.json"))[-1:]:
        if missing(files.read_json(path), runs):
            return path
    return RESULTS / f"{theme}_{time.strftime('%Y-%m-%d')}.json"


def missing(content: Row, runs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    done = {(row["who"], row["seed"]) for row in content["rows"]}
    return [run for run in runs if run not in done]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="sprint", help="ours: name or file (sprint)")
    parser.add_argument("--rival", action="append", default=[], help="a rival's recipe; repeat for more")
    parser.add_argument("--rival-script", action="append", default=[], help="a rival's script, ends in .py; repeat")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--data", default="cifar10", help="of the recipes (cifar10)")
    parser.add_argument("--out", type=Path, help="JSON file of the rows; the picture is drawn beside it")
    parser.add_argument("--only", nargs=2, metavar=("CONTENDER", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        in_child(arguments.only[0], arguments.data, int(arguments.only[1]))
        return 0

    try:
        return compete(arguments)
    except PeregrineError as error:
        sys.exit(str(error))


def compete(arguments: argparse.Namespace) -> int:
    """Run what is missing, then say and draw what came out."""
    paths = [arguments.recipe, *arguments.rival, *arguments.rival_script]
    contenders = {Path(path).stem: path for path in paths}
    if len(contenders) < len(paths):
        sys.exit(f"each contender needs a name of its own; got {', '.join(paths)}")
    for script in arguments.rival_script:
        if not Path(script).is_file() or not script.endswith(".py"):
            sys.exit(f"--rival-script is an existing file that ends in .py; got {script!r}")
    ours = next(iter(contenders))
    runs = [(who, seed) for seed in range(arguments.seeds) for who in contenders]
    out = arguments.out or default_out(ours, arguments.data, runs)
    content = begin(out, contenders, arguments.data)
    for who, seed in missing(content, runs):
        row = {"who": who, "seed": seed, **measure(contenders[who], arguments.data, seed)}
        content["rows"].append(row)
        files.write_json(out, content)
        print(f"{who}, seed {seed}: {row['training_seconds']:.1f} s, {row['accuracy']:.2%}", file=sys.stderr)
    rows = content["rows"]
    print(f"{host.processor()}, {host.threads()} threads; {arguments.data}; {out}")
    print(curves.table(rows, ours))
    curves.draw(rows, ours, out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
