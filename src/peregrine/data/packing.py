"""Decoding all images of a listing on all cores, so that a kill at any moment costs no more than the last block.

    <folder>/
      store/images.npy    the pixels of what could be decoded, in order
      journal.jsonl       a line for each block: what became of its images, SHA-256 of all pixels so far; and its own

A block counts when its line is whole and the pixels are as it says: nothing has to be flushed to disk on the way, and
after a power cut too nothing counts that is not there. What comes after the last such block is cut off and made again.
"""

import collections
import concurrent.futures
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from peregrine import host, progress
from peregrine.data import store
from peregrine.data.base import Listing, Read
from peregrine.data.image_files import Held
from peregrine.data.store import Row
from peregrine.dataset import Images
from peregrine.preprocess import BadImage, Preprocess, decode, strict_warnings

FINISHED = "store"  # the folder in the folder
_JOURNAL = "journal.jsonl"
_BLOCK = 1024  # images
_BLOCK_BYTES = 32 << 20  # and pixels, whichever is reached first
_TASK = 16  # images that a thread takes at once, as handing one over takes as long as decoding a tiny one
_TASK_BYTES = 1 << 20

T = TypeVar("T")
R = TypeVar("R")


def parallel(work: Callable[[T], R], items: Iterable[T], at_once: int = _TASK) -> Iterator[R]:
    """`map` on all cores, in order; see `batches`."""
    return itertools.chain.from_iterable(batches(lambda batch: [work(item) for item in batch], items, at_once))


def batches(work: Callable[[list[T]], R], items: Iterable[T], at_once: int) -> Iterator[R]:
    """`work` of `at_once` items after the other, in order, on all cores.

    Never further ahead than a few batches for each core, so that results do not pile up, nor what is held in memory to
    be read. Threads are enough, because Pillow and hashlib let go of the interpreter while they compute.
    """
    remaining = iter(items)
    pool = concurrent.futures.ThreadPoolExecutor(host.threads())
    try:
        pending: collections.deque[concurrent.futures.Future[R]] = collections.deque()
        while batch := _taken(remaining, at_once):
            pending.append(pool.submit(work, batch))
            if len(pending) > 2 * host.threads():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _taken(items: Iterator[T], at_once: int) -> list[T]:
    """The next `at_once` items, or fewer, where they take much memory."""
    batch: list[T] = []
    held = 0
    for item in items:
        batch.append(item)
        if isinstance(item, Held):
            held += len(item.content or b"")
        if len(batch) == at_once or held >= _TASK_BYTES:
            break
    return batch


def digest(read: Read) -> str:
    """SHA-256 of a file in hex, or why it cannot be read."""
    try:
        return hashlib.sha256(read()).hexdigest()
    except BadImage as bad:
        return _unreadable(bad)


@dataclass
class Packed:
    """What was decoded so far.

    Attributes:
        rows: what became of each image.
        pixels: the running SHA-256 of `images.npy`, with a head that counts all images.
    """

    rows: list[Row]
    pixels: "hashlib._Hash"


def pack(folder: Path, listing: Listing, preprocess: Preprocess) -> Packed:
    """Decode the images of `listing` into `folder`, going on where a killed process stopped.

    Raises:
        OSError: the disk is full or cannot be written to.
    """

    def prepare(reads: list[Read]) -> tuple[list[Row], Images]:
        """The rows, and the pixels of those without a reason in one piece, to be hashed and written at once."""
        rows: list[Row] = []
        pixels = np.empty((len(reads), preprocess.size, preprocess.size, 3), np.uint8)
        kept = 0
        for read in reads:
            found = ""
            try:
                content = read()
                found = hashlib.sha256(content).hexdigest()
                image = decode(content)
                pixels[kept] = preprocess.fit(image)
                rows.append(Row(found, *image.size))
                kept += 1
            except BadImage as bad:
                rows.append(Row(found or _unreadable(bad), 0, 0, str(bad)))
        return rows, pixels[:kept]

    total, image_bytes = len(listing.entries), 3 * preprocess.size**2
    at_once = max(1, min(_TASK, _TASK_BYTES // image_bytes))
    block = max(1, min(_BLOCK, _BLOCK_BYTES // image_bytes))
    head = store.head(total, preprocess.size)
    packed = _resume(folder, head, image_bytes)
    rows = packed.rows
    written = len(rows)  # of them, those in the journal
    with (
        (folder / FINISHED / store.IMAGES).open("ab") as images,
        (folder / _JOURNAL).open("ab") as journal,
        progress.bar("prepare images", total, "image") as advance,
        concurrent.futures.ThreadPoolExecutor(1) as beside,
        strict_warnings(),
    ):
        if images.tell() == 0:
            images.write(head)
        advance(written)
        flushing: concurrent.futures.Future[None] | None = None
        reads = listing.contents(itertools.islice(listing.entries, written, None))
        for made, pixels in batches(prepare, reads, at_once):
            rows += made
            packed.pixels.update(pixels.data)
            images.write(pixels.data)
            advance(len(made))
            if len(rows) - written >= block or len(rows) == total:
                images.flush()
                journal.write(_line(rows[written:], packed.pixels.hexdigest()))
                journal.flush()
                written = len(rows)
                if flushing is None or flushing.done():  # now, while all cores decode, and not all at the end
                    flushing = beside.submit(os.fsync, images.fileno())
    return packed


def _resume(folder: Path, head: bytes, image_bytes: int) -> Packed:
    """Cut off what is not whole, and give what is."""
    packed = Packed([], hashlib.sha256(head))
    images_path, journal_path = folder / FINISHED / store.IMAGES, folder / _JOURNAL
    images_path.parent.mkdir(exist_ok=True)
    images_path.touch()
    journal_path.touch()
    with images_path.open("r+b") as images, journal_path.open("r+b") as journal:
        whole_images = whole_journal = 0
        if len(images.read(len(head))) == len(head):
            whole_images = len(head)
            for text in journal:
                rows, digest = _parsed(text)
                pixels = packed.pixels.copy()
                length = image_bytes * sum(not row.reason for row in rows)
                pixels.update(images.read(length))
                if not rows or pixels.hexdigest() != digest:
                    break
                packed.rows += rows
                packed.pixels = pixels
                whole_images += length
                whole_journal += len(text)
        images.truncate(whole_images)
        journal.truncate(whole_journal)
    return packed


def _line(rows: Sequence[Row], pixels: str) -> bytes:
    """A line of the journal: a checksum of the rest; images, and the digest of all pixels up to them."""
    listed = [[row.digest, row.width, row.height, row.reason] for row in rows]
    content = json.dumps({"pixels": pixels, "rows": listed}).encode()
    return hashlib.sha256(content).hexdigest().encode() + b" " + content + b"\n"


def _parsed(text: bytes) -> tuple[list[Row], str]:
    """The content of a line; no rows where it was not written to its end."""
    checksum, _, content = text.removesuffix(b"\n").partition(b" ")
    if not text.endswith(b"\n") or hashlib.sha256(content).hexdigest().encode() != checksum:
        return [], ""
    line = json.loads(content)
    return [Row(*row) for row in line["rows"]], line["pixels"]


def _unreadable(bad: BadImage) -> str:
    return f"unreadable: {bad}"
