"""Pictures of the run, inside the page."""

import base64
import functools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A PNG as an address that holds it; its title and description are what the plot wrote into the file."""

    uri: str
    width: int
    height: int
    title: str
    description: str


def find(folder: Path) -> dict[str, Picture | None]:
    """All PNGs of a folder by their names; None for a file that is no PNG, which the page then calls missing."""
    return {path.stem: _read(path, *_state(path)) for path in folder.glob("*.png")}


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=32)  # a page that is watched is made again and again from the same pictures
def _read(path: Path, _changed: int, _size: int) -> Picture | None:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            words = {key: str(image.info.get(key, "")) for key in ("Title", "Description")}
            width, height = image.size
    except (OSError, ValueError, SyntaxError):
        return None
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return Picture(uri, width, height, words["Title"] or path.stem.replace("_", " "), words["Description"])
