"""From a file to the pixels that a model sees: the one place where that happens.

Used when a data set is prepared, by `predict` and by `serve`. Everything that depends on the file is here (decode,
orientation, colour, size); everything that depends on the model (scale, mean, layout) is inside the model's graph.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from peregrine.dataset import ImageArray, Images

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000  # larger than any camera's photo; a decompression bomb announces more
_LARGE_PIXELS = 16_000_000  # 64 MB in Pillow
_large = threading.Lock()


class BadImage(ValueError):
    """An image that cannot be used; the message is the reason alone, because the caller knows the file's name."""


class Preprocess(BaseModel):
    """How a file becomes the input of a model; stands in every manifest.

    Attributes:
        size: side of the square result in pixels.
        resize: `crop` scales the shorter side to `size` and keeps the centre; `pad` scales the longer side and fills
            up with black.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    resize: Literal["crop", "pad"] = "crop"

    def __call__(self, source: bytes | Path) -> Images:
        """Decode and fit: uint8 `(size, size, 3)`.

        Raises:
            BadImage: the source is no usable image; the message says why.
        """
        return self.fit(decode(source))

    def fit(self, image: Image.Image) -> Images:
        """Resize an RGB image with antialiased bicubic and crop or pad it: uint8 `(size, size, 3)`."""
        if image.size != (self.size, self.size):
            method = Image.Resampling.BICUBIC
            square = (self.size, self.size)
            if self.resize == "crop":
                image = ImageOps.fit(image, square, method)
            else:
                if 2 * self.size * min(image.size) < max(image.size):  # a side that Pillow would round to nothing
                    image = image.resize((self.size, 1) if image.width > image.height else (1, self.size), method)
                image = ImageOps.pad(image, square, method, color=(0, 0, 0))
        return np.asarray(image, np.uint8)

    @overload
    def fit_array(self, images: Images) -> Images: ...

    @overload
    def fit_array(self, images: ImageArray) -> ImageArray: ...

    def fit_array(self, images: ImageArray) -> ImageArray:
        """`fit` for images that are already pixels: uint8 `(N, H, W, 3)` to `(N, size, size, 3)`."""
        if images.shape[1:3] == (self.size, self.size):
            return images
        fitted = np.empty((len(images), self.size, self.size, 3), np.uint8)
        for index, image in enumerate(images):
            fitted[index] = self.fit(Image.fromarray(image))
        return fitted


def decode(source: bytes | Path) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright.

    EXIF orientation is applied; grey, palette and CMYK become RGB; transparency is laid over white; 16-bit grey keeps
    its upper eight bits; of an animation the first frame counts.

    Raises:
        BadImage: unreadable, truncated, too large, or not one of JPEG, PNG, WEBP and BMP.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    with _opened(content) as image, _turn(image.width * image.height):
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)


def dimensions(source: bytes) -> tuple[int, int]:
    """Width and height of an image in pixels, from its header alone, before EXIF orientation.

    Raises:
        BadImage: the header is no usable one; the message says why.
    """
    with _opened(source) as image:
        return image.size


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """An image with its header read, checked for size; inside the block too, what Pillow raises is a `BadImage`."""
    if not data:
        raise BadImage("the file is empty")
    try:
        with strict_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(f"{image.width}×{image.height} pixels are more than {MAX_PIXELS:,}")
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # damaged input makes Pillow raise nearly anything, struct.error and TypeError included
        raise BadImage(f"damaged: {error}") from None


def _turn(pixels: int) -> contextlib.AbstractContextManager[object]:
    """Very large images are decoded one at a time, so that many cores do not need many times their memory."""
    return _large if pixels > _LARGE_PIXELS else contextlib.nullcontext()


_warnings_lock = threading.Lock()
_warnings_users = 0
_warnings_before: contextlib.AbstractContextManager[object]


@contextlib.contextmanager
def strict_warnings() -> Iterator[None]:
    """Turn what Pillow warns of, bombs and damaged metadata, into errors; its deprecations do not concern a user.

    `warnings.catch_warnings` changes the whole process: blocks that overlap in two threads would put each other's
    filters back and leave one in force for good. So the first thread in sets the filters, the last one out removes
    them, and they concern Pillow only. A block around many decodings saves setting them for each.
    """
    global _warnings_users, _warnings_before
    with _warnings_lock:
        if _warnings_users == 0:
            _warnings_before = warnings.catch_warnings()
            _warnings_before.__enter__()
            warnings.filterwarnings("error", module=r"PIL\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"PIL\.")
        _warnings_users += 1
    try:
        yield
    finally:
        with _warnings_lock:
            _warnings_users -= 1
            if _warnings_users == 0:
                _warnings_before.__exit__(None, None, None)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey PNG: `convert` would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    return image if image.mode == "RGB" else image.convert("RGB")  # which copies, where there is nothing to convert
