"""What a source of labelled images is.

There are three ways to name data, and the catalogue has a kind for each:

- `source`: data known by a name, `cifar10`; a `Source` finds it on this machine or downloads it.
- `address`: data at an address, `hf://owner/name`; a function fetches it, and gives the address for good and its path.
- `layout`: data at a path; the first `Layout` that recognises the path's content loads it.

Sources and layouts are modules with these functions or objects with these methods. Both return `Loaded`: splits of
uint8 images at one size, every class in every split, no validation unless the data comes with one (training splits its
own off later), nothing to train on where `Options.seed` asks for no split, and the names of what had to be left out.
Neither changes anything outside Peregrine's cache.

A layout of encoded images gives a `Listing` of them to `preparing.load`, which decodes them into the store.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Splits
from peregrine.errors import UsageError

Resize = Literal["crop", "pad"]
SIZES = range(8, 1025)  # sides in pixels that data can be asked for


@dataclass(frozen=True)
class Options:
    """What a user may ask of any data; a source ignores what does not concern it.

    Attributes:
        size: side of the square images in pixels; None takes the data's own.
        resize: how other shapes become square: `crop` the centre or `pad` with black.
        max_bad: fraction of the images, 0 to 1, that may be unreadable and left out.
        seed: of the split into train and test, for data that comes without one; None makes none: all of it is test.
        exclude: ids of images to leave out as if they were not there; `sources.load` fills it, see `exclusions`.

    Raises:
        UsageError: a value is out of its range.
    """

    size: int | None = None
    resize: Resize = "crop"
    max_bad: float = 0.01
    seed: int | None = 0
    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.size is not None and self.size not in SIZES:
            raise UsageError(f"an image size is {SIZES[0]} to {SIZES[-1]} pixels; got {self.size}")
        if self.resize not in ("crop", "pad"):
            raise UsageError(f"resize is crop or pad; got {self.resize!r}")
        if not 0 <= self.max_bad <= 1:
            raise UsageError(f"max-bad is a fraction, 0 to 1, or 0% to 100%; got {self.max_bad}")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"a seed is 0 or more; got {self.seed}")


@dataclass(frozen=True)
class LeftOut:
    """An image that could not be read: its id and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a data set before anything of it is read.

    Attributes:
        id: what names it to a person: printable, and no other image of the data set has it.
        split: `train`, `validation` or `test`.
        class_name: its label.
        place: where its content is, in the terms of its layout.
    """

    id: str
    split: str
    class_name: str
    place: Any


Read = Callable[[], bytes]  # gives the content of one image, or raises `BadImage` with the reason


@dataclass(frozen=True)
class Listing:
    """All images of a data set, before anything of them is read.

    Attributes:
        entries: split after split.
        class_names: in the order of the labels.
        contents: gives for each of some entries, in their order, what reads it; that is called soon, in any thread.
        notes: what a person should know of how it was made.
    """

    entries: Sequence[Entry]
    class_names: tuple[str, ...]
    contents: Callable[[Iterable[Entry]], Iterator[Read]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """An image on its way into another format.

    Attributes:
        split, id: as of `Entry`.
        label: index of its class.
        content: a JPEG, PNG, WEBP or BMP file.
        suffix: of such a file, `.jpg`.
    """

    split: str
    id: str
    label: int
    content: bytes
    suffix: str


@dataclass(frozen=True)
class Loaded:
    """What loading gives.

    Attributes:
        splits: the images.
        left_out: the images that are not in them, because they could not be read.
        listing: gives the files that the images come from, split after split in their order; None where there are none.
        sizes: int32 `(N, 2)`, width and height of each of those files in pixels; None where there are none.
    """

    splits: Splits
    left_out: tuple[LeftOut, ...] = ()
    listing: Callable[[], Listing] | None = None
    sizes: npt.NDArray[np.int32] | None = None


class Source(Protocol):
    """Data known by a name."""

    def fetch(self) -> Path | None:
        """Make sure that the data is on this machine, whole: its folder, or None where a library brings it.

        Raises:
            MachineError: it has to be downloaded and cannot be; the message says where to put it by hand.
            DamagedFile: what was found or downloaded is not the real thing.
        """
        ...

    def load(self, options: Options) -> Loaded:
        """Fetch and read the data.

        Raises:
            MachineError, DamagedFile: as `fetch`.
        """
        ...


class Layout(Protocol):
    """Data at a path, in one recognisable form. A path may be a pattern, as `photos/*.parquet`."""

    def recognises(self, location: Path) -> bool:
        """Whether the content of `location` looks like this layout; names are looked at, files are not read."""
        ...

    def scan(self, location: Path, seed: int | None) -> Listing | None:
        """The encoded images at `location`, before anything of them is read; None where images are bare pixels.

        Args:
            seed: as of `Options`.

        Raises:
            DataError, CheckFailed: as `load_from`, in so far as names and labels show it.
        """
        ...

    def load_from(self, location: Path, options: Options) -> Loaded:
        """Read the data at `location`.

        Raises:
            DataError: the data cannot be trained on: an empty class, one class only, a label that means no class.
            CheckFailed: a file is damaged, or more images than `max_bad` are.
            MachineError: a folder cannot be read, or the cache cannot be written.
        """
        ...
