"""Whether two benchmark runs of the same Artifacts agree: do the intervals of their ratios overlap?

    python benchmarks/agreement.py RUN|ARTIFACT… [--repeats 10] [--rounds N] [--full] [--out X.json]

Runs `peregrine benchmark` once more than there are repeats, each time with new processes, and compares each time with
the one before: for every Candidate, the 95% intervals of its two ratios to the baseline, of throughput and of latency.
They agree if of each ratio the intervals overlap in nine of ten repeats, and no two verdicts contradict each other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ENOUGH = 0.9  # of the repeats
Ratios = dict[tuple[str, str], dict[str, Any]]  # by Candidate and metric: the entry of `comparisons`


def measured(targets: Sequence[str], rounds: int | None, full: bool) -> dict[str, Any]:
    """The result of one `peregrine benchmark`."""
    with tempfile.TemporaryDirectory(prefix="peregrine-agreement-") as folder:
        command = [sys.executable, "-m", "peregrine", "benchmark", *targets, "--out", folder, "--json"]
        command += [*(["--rounds", str(rounds)] if rounds else []), *([] if full else ["--quick"])]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def ratios(result: dict[str, Any]) -> Ratios:
    return {(entry["candidate"], entry["metric"]): entry for entry in result["comparisons"]}


def overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return max(one[0], other[0]) <= min(one[1], other[1])


def contradict(one: str, other: str) -> bool:
    return {one, other} == {"faster", "slower"}


def agreements(times: Sequence[Ratios]) -> dict[tuple[str, str], dict[str, int]]:
    """Per ratio: how many `repeats`, in how many the intervals `overlap`, in how many the verdicts `contradict`."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for before, after in pairwise(times):
        for key in before.keys() & after.keys():
            told = found.setdefault(key, {"repeats": 0, "overlap": 0, "contradict": 0})
            told["repeats"] += 1
            told["overlap"] += overlap(before[key]["interval"], after[key]["interval"])
            told["contradict"] += contradict(before[key]["verdict"], after[key]["verdict"])
    return found


def agree(found: dict[tuple[str, str], dict[str, int]]) -> bool:
    return bool(found) and all(
        told["overlap"] >= ENOUGH * told["repeats"] and not told["contradict"] for told in found.values()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+", metavar="RUN|ARTIFACT", help="what `peregrine benchmark` takes")
    parser.add_argument("--repeats", type=int, default=10, help="how often it is measured again (10)")
    parser.add_argument("--rounds", type=int, help="of each benchmark (5, with --full 7)")
    parser.add_argument("--full", action="store_true", help="all scenarios and the sweep, not the quick mode")
    parser.add_argument("--out", type=Path, help="write all results as JSON")
    arguments = parser.parse_args()

    results = []
    for number in range(arguments.repeats + 1):
        results.append(measured(arguments.targets, arguments.rounds, arguments.full))
        noise = results[-1]["noise"]
        print(f"benchmark {number + 1} of {arguments.repeats + 1}", *noise["messages"], sep="; ", file=sys.stderr)
    times = [ratios(result) for result in results]
    found = agreements(times)
    for (candidate, metric), told in sorted(found.items()):
        seen = [time[candidate, metric]["ratio"] for time in times if (candidate, metric) in time]
        print(
            f"{candidate:32} {metric:17} {min(seen):6.2f} to {max(seen):6.2f} times {results[0]['baseline']}: "
            f"intervals overlap in {told['overlap']} of {told['repeats']} repeats"
        )
    overlapping, repeats = (sum(told[key] for told in found.values()) for key in ("overlap", "repeats"))
    print(f"all together: {overlapping} of {repeats}; {'they agree' if agree(found) else 'they do not agree'}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"results": results}, indent=2) + "\n")
    return 0 if agree(found) else 1


if __name__ == "__main__":
    sys.exit(main())
