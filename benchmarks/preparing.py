"""How fast a folder of JPEG files becomes a store, against Pillow alone on the same cores.

    python benchmarks/preparing.py [--images 1500] [--rounds 5] [--size 128]

Three things, in turn, in each round: `decode` opens and decodes every file with Pillow in a pool of threads, one for
each core, and throws the pixels away; `and resize` also crops and resizes them, bicubic, as `--resize crop` does, and
makes arrays of them; `prepare` is `peregrine data prepare` with an empty cache, all of it: reading, SHA-256 of each
file, decoding, resizing, writing, checksums, flushing to disk. Files are in the system's cache. A round before the
first is left out. The last column is the share by processor time, of all threads, which says more while others use the
machine. The exit status is 1 where `prepare` reaches less than 90% of `and resize` in the median of the rounds.

The files are made: noise of low frequency at JPEG quality 90, with the bytes per pixel of photos.
"""

import argparse
import concurrent.futures
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageOps

import peregrine
from peregrine import host

KINDS = {"photos, 500×375": (500, 375), "small, 160×120": (160, 120)}
LEAST = 0.9


def write(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """`count` files below `train` and `test`, each its own."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        if index < 100:
            coarse = generator.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            noise = generator.normal(0, 6, (size[1], size[0], 3))
            image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=90)
            content = buffer.getvalue()
        else:  # the same with a comment
            text = str(index).encode()
            content = paths[index % 100].read_bytes()
            content = content[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + content[2:]
        path = folder / ("test" if index % 5 == 4 else "train") / f"class{index % 2}" / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def on_all_cores(work: Callable[[Path], object], paths: list[Path]) -> None:
    with concurrent.futures.ThreadPoolExecutor(host.threads()) as pool:
        for start in range(0, len(paths), 256):
            list(pool.map(work, paths[start : start + 256]))


def measure(count: int, shape: tuple[int, int], rounds: int, size: int) -> dict[str, list[tuple[float, float]]]:
    """Images per second of each, and per second of processor time, round after round."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    def resize(path: Path) -> None:
        with Image.open(path) as image:
            np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))

    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder) / "data", count, shape)

        cache = Path(folder) / "cache"
        os.environ["PEREGRINE_CACHE"] = str(cache)

        def prepare() -> None:
            peregrine.load_dataset(Path(folder) / "data", size=size)

        measures: dict[str, Callable[[], object]] = {
            "decode": lambda: on_all_cores(decode, paths),
            "decode and resize": lambda: on_all_cores(resize, paths),
            "prepare": prepare,
        }
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
        for number in range(rounds + 1):
            for name, do in measures.items():
                start, worked = time.perf_counter(), time.process_time()
                do()
                taken = count / (time.perf_counter() - start), count / (time.process_time() - worked)
                if number:
                    samples[name].append(taken)
            # Kept, it would hold its pages, and the next round would pay for memory that nobody used before, which on a
            # virtual machine takes long: a fifth of the whole, and not of our making.
            shutil.rmtree(cache)
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1500, help="of 500×375; five times as many small ones (1500)")
    parser.add_argument("--rounds", type=int, default=5, help="of all three (5)")
    parser.add_argument("--size", type=int, default=128, help="side of the prepared images (128)")
    parser.add_argument("--json", type=Path, help="write all samples into this file")
    asked = parser.parse_args()

    machine = (
        f"{host.threads()} threads of {host.processor()}, Python {sys.version.split()[0]}, Pillow {PIL.__version__}"
    )
    print(f"{time.strftime('%Y-%m-%d')}, {machine}, {asked.rounds} rounds, images/s")
    print(f"{'':18}{'decode':>10}{'and resize':>12}{'prepare':>10}{'of decode':>12}{'of and resize':>15}{'by CPU':>10}")
    results: dict[str, dict[str, Any]] = {}
    for name, shape in KINDS.items():
        samples = measure(asked.images * (1 if shape[0] > 200 else 5), shape, asked.rounds, asked.size)

        def share(other: str, clock: int, samples: dict[str, list[tuple[float, float]]] = samples) -> float:
            pairs = zip(samples["prepare"], samples[other], strict=True)
            return statistics.median(ours[clock] / theirs[clock] for ours, theirs in pairs)

        decode, resize, prepare = (statistics.median(rate for rate, _ in values) for values in samples.values())
        shares = share("decode", 0), share("decode and resize", 0), share("decode and resize", 1)
        print(
            f"{name:18}{decode:10,.0f}{resize:12,.0f}{prepare:10,.0f}"
            f"{shares[0]:12.1%}{shares[1]:15.1%}{shares[2]:10.1%}"
        )
        results[name] = {"images_per_s": samples, "share": shares[1], "share_by_cpu": shares[2]}
    if asked.json:
        asked.json.write_text(
            json.dumps({"machine": host.describe(), "versions": host.versions(), **results}, indent=2)
        )
    return any(result["share"] < LEAST for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
