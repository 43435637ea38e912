"""What decoding costs: some test images as files, and how many of them a second are decoded and resized."""

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from peregrine import host
from peregrine.dataset import Dataset
from peregrine.preprocess import Preprocess

IMAGES, QUALITY = 256, 95  # how many are decoded, and JPEG's quality where the data did not come as files
SECONDS = 0.3


def encode(test: Dataset, source: str, folder: Path) -> None:
    """Write some test images as files, spread over all: the users' own where the data came from a folder, else JPEG.

    Args:
        source: where the data came from, as `--data` says it.
        folder: is made; its name for the files says which they are.
    """
    places = np.unique(np.linspace(0, len(test) - 1, min(IMAGES, len(test))).astype(int)).tolist()
    own = [Path(source) / str(test.ids[place]) for place in places]
    folder.mkdir()
    if Path(source).is_dir() and all(path.is_file() for path in own):
        for number, path in enumerate(own):
            (folder / f"{number:04d}.own").write_bytes(path.read_bytes())
        return
    for number, place in enumerate(places):
        content = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(test.images[place])).save(content, "JPEG", quality=QUALITY)
        (folder / f"{number:04d}.jpg").write_bytes(content.getvalue())


def encoded(folder: Path) -> list[bytes]:
    """The content of the files that `encode` wrote."""
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def decoding(folder: Path, preprocess: Preprocess) -> dict[str, Any]:
    """Decoding and resizing alone: `images_per_s` on all cores, and `what` was decoded."""
    sources, samples = encoded(folder), list[float]()
    with ThreadPoolExecutor(host.threads()) as pool:
        while sum(samples) < SECONDS or len(samples) < 3:
            start = time.perf_counter()
            list(pool.map(preprocess, sources))
            samples.append(time.perf_counter() - start)
    kind = "files of the test split" if any(folder.glob("*.own")) else "test images as JPEG"
    each = sum(map(len, sources)) / len(sources) / 1e3
    return {
        "images_per_s": len(sources) / statistics.median(samples),
        "what": f"{len(sources)} {kind}, {each:.1f} kB each, decoded and resized "
        f"to {preprocess.size}×{preprocess.size} pixels with {host.threads()} threads",
    }
