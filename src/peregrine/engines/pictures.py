"""Pictures for event files, drawn in milliseconds: matplotlib takes longer than an epoch on a good GPU.

Colours mean what they mean in the report: blue is right, orange is wrong.
"""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from peregrine.dataset import Images

Picture = npt.NDArray[np.uint8]  # `(H, W, 3)`
Colour = tuple[int, int, int]

INK, MUTED, WHITE = (28, 39, 51), (91, 104, 117), (255, 255, 255)
# From a share of 0 to a share of 1.
RIGHT_SHADES = ((238, 244, 250), (181, 210, 235), (31, 111, 178), (13, 63, 107))
WRONG_SHADES = ((253, 243, 236), (245, 196, 163), (201, 82, 12), (125, 46, 2))

GRID_SIDE = 1000  # pixels, at most and about
GRID_COLUMNS = 6  # 36 images; an event file's checksum, made in Python, takes as long as the picture
GRID_GAP = 4
GRID_IMAGE = 64  # pixels that an image is enlarged to; more would cost time at each epoch's end
NAMED_CLASSES = 20  # up to so many, a confusion matrix has room for names and numbers
MATRIX_SIDE = 500  # pixels, about, beyond them
LETTERS = 14  # of a class name
MARGIN = 16


def grid(images: Images) -> Picture:
    """Images side by side, from left to right and top to bottom.

    Those below 64 pixels are enlarged by a whole factor, so that each pixel stays one; of large ones fewer are shown.

    Args:
        images: uint8 `(N, H, W, 3)`, N ≥ 1; the first 36 are shown at most.
    """
    _, height, width, channels = images.shape
    columns = min(GRID_COLUMNS, max(2, GRID_SIDE // max(height, width)))
    shown = images[: columns**2]
    factor = max(1, GRID_IMAGE // max(height, width))
    down, across = height * factor + GRID_GAP, width * factor + GRID_GAP
    rows, columns = -(-len(shown) // columns), min(columns, len(shown))
    picture = np.full((rows * down + GRID_GAP, columns * across + GRID_GAP, channels), WHITE, np.uint8)
    for place, image in enumerate(shown.repeat(factor, 1).repeat(factor, 2)):
        top, left = GRID_GAP + place // columns * down, GRID_GAP + place % columns * across
        picture[top : top + height * factor, left : left + width * factor] = image
    return picture


def confusion_matrix(counts: npt.NDArray[np.integer[Any]], class_names: Sequence[str]) -> Picture:
    """What was predicted for the images of each class; with names and shares up to 20 classes, beyond in colours.

    Args:
        counts: `(C, C)`, images by true class (rows) and predicted class (columns).
    """
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = classes <= NAMED_CLASSES
    cell = min(64, max(36, 400 // classes)) if named else max(1, MATRIX_SIDE // classes)
    names = [_short(name) for name in class_names] if named else []
    room = round(max((_font(14).getlength(name) for name in names), default=0)) + 10 if named else 0
    left, top = MARGIN + room, 76 + room
    side = classes * cell
    right, total = int(np.trace(counts)), int(counts.sum())
    reading = "rows: true class · columns: predicted" + (" · numbers: % of the row" if named else "")
    width = max(left + side, MARGIN + round(_font(13).getlength(reading)))
    image = Image.new("RGB", (width + MARGIN, top + side + MARGIN), WHITE)
    image.paste(Image.fromarray(_cells(shares, cell, gap=int(named))), (left, top))
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 26), f"{right:,} of {total:,} right, {right / max(total, 1):.1%}", INK, _font(18), "lm")
    draw.text((MARGIN, 52), reading, MUTED, _font(13), "lm")
    for index, name in enumerate(names):
        middle = index * cell + cell // 2
        draw.text((left - 8, top + middle), name, INK, _font(14), "rm")
        _upward(image, (left + middle, top - 8), name)
    if named:
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = shares[row, column]
            said = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            place = (left + column * cell + cell // 2, top + row * cell + cell // 2)
            draw.text(place, said, WHITE if share > 0.4 else INK, _font(13), "mm")
    return np.asarray(image)


def _cells(shares: npt.NDArray[np.float64], cell: int, gap: int) -> Picture:
    """The matrix in colours, each cell a square of `cell` pixels of which `gap` are white."""
    right = np.eye(len(shares), dtype=bool)[:, :, None]
    colours = np.where(right, _shaded(shares, RIGHT_SHADES), _shaded(shares, WRONG_SHADES))
    picture = colours.astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    if gap:
        picture[cell - 1 :: cell] = WHITE
        picture[:, cell - 1 :: cell] = WHITE
    return picture


def _shaded(shares: npt.NDArray[np.float64], shades: Sequence[Colour]) -> npt.NDArray[np.float64]:
    """The colour of each share in 0..1, one more axis at the end; the square root lets small shares be seen."""
    steps = np.linspace(0, 1, len(shades))
    return np.stack([np.interp(np.sqrt(shares), steps, channel) for channel in zip(*shades, strict=True)], axis=-1)


def _upward(image: Image.Image, place: tuple[int, int], text: str) -> None:
    """Write text from bottom to top; `place` is its middle at the lower end."""
    font = _font(14)
    strip = Image.new("RGB", (round(font.getlength(text)) + 2, 20), WHITE)
    ImageDraw.Draw(strip).text((0, 10), text, INK, font, "lm")
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(turned, (place[0] - turned.width // 2, place[1] - turned.height))


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib; Pillow's own font, taken where that is not found, has no ä and no é."""
    found = find_spec("matplotlib")  # imports nothing
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if path.is_file():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)
