"""Many files, some of them damaged, and a preparation that is killed again and again.

With PEREGRINE_TEST_IMAGES=100000 it is as large as a real data set; ten kills then, some minutes, and a gigabyte.
"""

import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peregrine.data import image_files

IMAGES = int(os.environ.get("PEREGRINE_TEST_IMAGES", "2000"))
KILLS = 10 if IMAGES >= 100_000 else 3
SIDE = 48
CLASSES = ("cat", "dog", "fox", "owl")
SIZES = ((96, 72), (64, 64), (60, 90), (160, 120), (121, 75))

LOAD = f"""
import json, logging, resource, sys
from pathlib import Path
from peregrine.data.base import Options
from peregrine.data.sources import load
from peregrine.data.stats import statistics
logging.basicConfig(level="INFO", stream=sys.stderr)
loaded = load(sys.argv[1], Options(size={SIDE}, max_bad=0.01))
numbers = statistics(loaded.splits)
# of this process alone: what the kernel counts for it may have begun with its parent's
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({{
    "peak_bytes": int(peak) * 1024,
    "left_out": {{bad.id: bad.reason for bad in loaded.left_out}},
    "images": sum(part["images"] for part in numbers["splits"].values()),
    "fingerprint": loaded.splits.train.fingerprint,
}}))
"""


def too_large(path: Path, content: bytes) -> None:
    with path.open("wb") as sparse:
        sparse.truncate(image_files.MAX_BYTES + 1)


def bomb(path: Path, content: bytes) -> None:
    head, pixels = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(content)
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, pixels)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


DAMAGE: list[tuple[str, Callable[[Path, bytes], object]]] = [
    ("the file is empty", lambda path, content: path.write_bytes(b"")),
    ("damaged: image file is truncated", lambda path, content: path.write_bytes(content[: len(content) // 2])),
    ("not a JPEG, PNG, WEBP or BMP image", lambda path, content: path.write_text("I am not an image")),
    ("not a JPEG, PNG, WEBP or BMP image", lambda path, content: path.write_bytes(bytes(len(content)))),
    ("not a JPEG, PNG, WEBP or BMP image", lambda path, content: path.write_bytes(b"GIF89a" + content)),
    ("more than 64,000,000 pixels", bomb),
    ("no such file or directory", lambda path, content: path.symlink_to("nowhere")),
    ("268,435,457 bytes are more than 268,435,456", too_large),
]


def write(folder: Path) -> dict[str, str]:
    """JPEG files of several sizes, a hundredth of them damaged: the ids of these, with the reason."""
    generator = np.random.default_rng(0)
    bases = []
    for number in range(200):
        small = Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
        bases.append(buffer.getvalue())
    parts = [folder / split / name for split in ("train", "test") for name in CLASSES]
    for part in parts:
        part.mkdir(parents=True)
    damaged = {}
    for index in range(IMAGES):
        path = parts[index % len(parts)] / f"{index:06d}.jpg"
        base, text = bases[index % len(bases)], str(index).encode()
        content = base[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + base[2:]  # a comment: each its own
        if index % 100 == 99:
            reason, damage = DAMAGE[index // 100 % len(DAMAGE)]
            damage(path, content)
            damaged[str(path.relative_to(folder))] = reason
        else:
            path.write_bytes(content)
    return damaged


def started(folder: Path, cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PEREGRINE_CACHE": str(cache)}
    command = [sys.executable, "-c", LOAD, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def decoded(cache: Path) -> float:
    """About how many images."""
    return sum(path.stat().st_size for path in cache.glob("store/work/*/store/images.npy")) / (3 * SIDE**2)


def contents(cache: Path) -> dict[str, bytes]:
    stores = [path.parent for path in cache.glob("store/*/store.json")]
    return {f"{store.name}/{path.name}": path.read_bytes() for store in stores for path in store.iterdir()}


@pytest.mark.timeout(3000 if IMAGES > 10_000 else 300)
def test_killed_again_and_again(tmp_path: Path) -> None:
    damaged = write(tmp_path / "d")
    moments = random.Random(0)
    for done in sorted(moments.random() for _ in range(KILLS)):
        process = started(tmp_path / "d", tmp_path / "killed")
        while decoded(tmp_path / "killed") < done * IMAGES:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.001)
        process.kill()
        process.communicate()
    results = []
    for cache in ("killed", "other"):
        out, err = started(tmp_path / "d", tmp_path / cache).communicate()
        results.append(json.loads(out.splitlines()[-1]))
        assert ("going on with the preparation" in err) == (cache == "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "other")
    assert len(contents(tmp_path / "other")) == 3
    assert not list(tmp_path.glob("*/store/work/*"))
    one, other = results
    assert one["fingerprint"] == other["fingerprint"]
    assert one["images"] == IMAGES - IMAGES // 100
    assert one["left_out"].keys() == damaged.keys()
    assert [name for name, reason in damaged.items() if not one["left_out"][name].startswith(reason)] == []
    assert max(one["peak_bytes"], other["peak_bytes"]) < 2**30
    print("peak", one["peak_bytes"], other["peak_bytes"])
