"""From how many images, pairs and rows the GPU is faster: the table `PAYS_FROM` of `peregrine.device`.

    python benchmarks/rapids.py [--seconds 3] [--rounds 3] [--json FILE]

Each task is done as the product does it, by PEREGRINE_DEVICE=cpu and by PEREGRINE_DEVICE=cuda, in turn, the transfers
counted; its size grows fourfold until the CPU takes --seconds, or the data 2 GiB. A round before the first is left out.
`start` is what a process pays once before its first use of the GPU: importing the library, the CUDA context, a first
small task. The GPU pays from where what it saves, by the rates of the largest size, is more than the start.

`packing` is the way of the training images to a GPU and their statistics, from a selection of an array. The CPU's side
leaves out the upload, which the engine pays there; so the GPU is judged too hardly, by the upload's time.

Without a GPU, or without the extra rapids, the CPU's side alone is measured, and that is said. The exit status is 0.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import arrays, device, host, tables
from peregrine.data.checks import near
from peregrine.dataset import Selection, channel_statistics, packed
from peregrine.engines.whitening import whitening_filters
from peregrine.errors import MissingDependency, MissingDevice

SIDE = 32  # of an image, in pixels
LARGEST_BYTES = 2 << 30
SMALLEST = 1 << 20  # of a task's unit
NEVER = 10**15

Task = Callable[[], object]


def pictures(pixels: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (pixels // SIDE**2, SIDE, SIDE, 3), np.uint8)


def statistics_of(pixels: int) -> Task:
    images = pictures(pixels)
    return lambda: channel_statistics(images)


def whitening(pixels: int) -> Task:
    images = (pictures(pixels).astype(np.float32) - 127.5) / 74
    return lambda: whitening_filters(images, 2, 24)


def packing(pixels: int) -> Task:
    images = pictures(pixels)
    selection = Selection(images, np.random.default_rng(1).permutation(len(images)))

    def do() -> None:
        place = arrays.choose("packing", pixels)
        whole = packed(selection, place)
        channel_statistics(whole, None if place is arrays.CPU else place)

    return do


def reshaping(pixels: int) -> Task:
    planes = pictures(pixels).reshape(-1, 3, SIDE, SIDE)
    images = np.empty((len(planes), SIDE, SIDE, 3), np.uint8)

    def do() -> None:
        images[:] = arrays.planes_to_pixels(planes, arrays.choose("reshaping", pixels))

    return do


def comparing(pairs: int) -> Task:
    hashes = np.random.default_rng(0).normal(size=(math.isqrt(2 * pairs), 95)).astype(np.float32)
    hashes /= np.linalg.norm(hashes, axis=1, keepdims=True)
    return lambda: near.propose(hashes)


def grouping(rows: int) -> Task:
    generator = np.random.default_rng(0)
    keys = {"label": generator.integers(0, 100, rows), "predicted": generator.integers(0, 100, rows)}
    values = {"confidence": generator.integers(0, 2**32, rows), "right": generator.integers(0, 2, rows)}
    return lambda: tables.group_sums(keys, values)


# what makes a task of a size; its unit; bytes that a unit takes in the host's memory
TASKS: dict[str, tuple[Callable[[int], Task], str, float]] = {
    "statistics": (statistics_of, "pixels", 3),
    "whitening": (whitening, "pixels", 12),
    "packing": (packing, "pixels", 6),
    "reshaping": (reshaping, "pixels", 6),
    "comparing": (comparing, "pairs", 0.01),
    "grouping": (grouping, "rows", 72),
}


def start_s(kind: str) -> tuple[float | None, str]:
    """Seconds until the GPU is ready for arrays or tables, in this process; or None, and why it is not."""
    os.environ[device.VARIABLE] = "cuda"
    before = time.perf_counter()
    try:
        device.serving(kind, "statistics", 1)
    except (MissingDevice, MissingDependency) as missing:
        return None, str(missing)
    return time.perf_counter() - before, ""


def measure(name: str, places: list[str], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each size, with the median of the seconds that each place took."""
    make, unit, unit_bytes = TASKS[name]
    rows: list[dict[str, Any]] = []
    amount = SMALLEST
    while not rows or (rows[-1]["cpu_s"] < seconds and amount * unit_bytes <= LARGEST_BYTES):
        do = make(amount)
        samples: dict[str, list[float]] = {place: [] for place in places}
        for number in range(rounds + 1):
            for place in places:
                os.environ[device.VARIABLE] = place
                before = time.perf_counter()
                do()
                if number:
                    samples[place].append(time.perf_counter() - before)
        medians = {f"{place}_s": statistics.median(values) for place, values in samples.items()}
        rows.append({"task": name, "amount": amount, "unit": unit, **medians, "samples_s": samples})
        amount *= 4
    return rows


def pays_from(rows: list[dict[str, Any]], start: float) -> int:
    """The amount from which a process is done sooner with the GPU, its start counted, to two digits; or `NEVER`."""
    last = rows[-1]
    saved = (last["cpu_s"] - last["cuda_s"]) / last["amount"]
    if saved * NEVER <= start:
        return NEVER
    amount = start / saved
    digits = 10 ** max(0, math.floor(math.log10(amount)) - 1)
    return math.ceil(amount / digits) * digits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="a task grows until the CPU takes so long (3)")
    parser.add_argument("--rounds", type=int, default=3, help="of every size (3)")
    parser.add_argument("--json", type=Path, help="write all samples into this file")
    asked = parser.parse_args()

    starts = {kind: start_s(kind) for kind in device.KINDS}
    gpu = host.find_gpu()
    print(
        f"{time.strftime('%Y-%m-%d')}, {host.threads()} threads of {host.processor()}, {gpu.name if gpu else 'no GPU'}"
    )
    for kind, (start, problem) in starts.items():
        print(f"{kind}: the CPU alone, {problem}" if start is None else f"{kind}: start {start:.2f} s")
    print(f"\n{'':12}{'amount':>16} {'unit':8}{'CPU, s':>10}{'GPU, s':>10}{'ratio':>8}")
    results: dict[str, Any] = {}
    found: dict[str, int] = {}
    for name in TASKS:
        start, _ = starts["tables" if name == "grouping" else "arrays"]
        rows = measure(name, ["cpu"] if start is None else ["cpu", "cuda"], asked.seconds, asked.rounds)
        for row in rows:
            there = (
                f"{row['cuda_s']:10.4f}{row['cpu_s'] / row['cuda_s']:8.1f}" if "cuda_s" in row else f"{'–':>10}{'–':>8}"
            )
            print(f"{name:12}{row['amount']:16,} {row['unit']:8}{row['cpu_s']:10.4f}{there}", flush=True)
        results[name] = rows
        if start is not None:
            found[name] = pays_from(rows, start)
    if found:
        print("\nfor src/peregrine/device.py:\nPAYS_FROM = {")
        for name, amount in found.items():
            print(f'    "{name}": {amount:_},  # {TASKS[name][1]}')
        print("}")
    if asked.json:
        about = {"machine": host.describe(), "gpu": gpu.name if gpu else None, "versions": host.versions()}
        began = {kind: start for kind, (start, _) in starts.items()}
        content = {**about, "start_s": began, "pays_from": found, "tasks": results}
        asked.json.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
