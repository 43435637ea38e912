"""From a file to pixels: every kind of image that people have, and what they have instead of images."""

import concurrent.futures
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import making
from peregrine.preprocess import MAX_PIXELS, BadImage, Preprocess, decode, dimensions

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def corners() -> Image.Image:
    """20×10: red left, green right of the upper half, blue left, white right of the lower half."""
    image = Image.new("RGB", (20, 10))
    for index, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        image.paste(colour, (10 * (index % 2), 5 * (index // 2), 10 * (index % 2) + 10, 5 * (index // 2) + 5))
    return image


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


# --- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "settings"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100, "subsampling": 0})],
)
def test_formats(tmp_path: Path, format: str, settings: dict[str, Any]) -> None:
    content = encoded(corners(), format, **settings)
    (tmp_path / "image").write_bytes(content)
    for source in (content, tmp_path / "image"):
        image = decode(source)
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image, float), np.asarray(corners(), float), atol=3)
    assert dimensions(content) == (20, 10)


def test_very_large_images_in_several_threads() -> None:
    """They take turns, and the next one's comes also after a damaged one."""
    content = encoded(Image.new("L", (4100, 4000), 7))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = [pool.submit(decode, part) for part in (content, content[:-500], content)]
    assert [result.exception() is None for result in results] == [True, False, True]
    assert pixel(results[2].result()) == (7, 7, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation(orientation: int, format: str) -> None:
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # how the camera held the picture, against which the viewer turns it
    stored = corners() if turned is None else corners().transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(stored, format, exif=exif, **({"quality": 100} if format != "PNG" else {})))
    assert image.size == (20, 10)
    for x, y, colour in ((2, 2, RED), (17, 2, GREEN), (2, 7, BLUE), (17, 7, WHITE)):
        np.testing.assert_allclose(pixel(image, x, y), colour, atol=12)


def test_grey() -> None:
    assert pixel(decode(encoded(Image.new("L", (4, 4), 77)))) == (77, 77, 77)
    assert pixel(decode(encoded(Image.new("1", (4, 4), 1)))) == WHITE


def test_palette() -> None:
    image = corners().convert("P", palette=Image.Palette.ADAPTIVE)
    assert pixel(decode(encoded(image)), 17, 2) == GREEN


def test_cmyk() -> None:
    image = decode(encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=100))
    np.testing.assert_allclose(pixel(image), RED, atol=3)


def test_transparency_is_laid_over_white() -> None:
    assert pixel(decode(encoded(Image.new("RGBA", (4, 4), (*RED, 0))))) == WHITE
    np.testing.assert_allclose(pixel(decode(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))), 127, atol=1)
    assert pixel(decode(encoded(Image.new("LA", (4, 4), (0, 0))))) == WHITE
    assert pixel(decode(encoded(Image.new("RGBA", (4, 4), (*RED, 0)), "WEBP", lossless=True))) == WHITE
    assert pixel(decode(encoded(Image.new("L", (4, 4), 9), transparency=9))) == WHITE
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([*RED, *BLUE])
    assert pixel(decode(encoded(palette, transparency=0))) == WHITE
    assert pixel(decode(encoded(palette, transparency=bytes([128, 255])))) == pytest.approx((255, 127, 127), abs=1)


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    for value in (0, 255, 256, 0x1234, 0xFFFF):
        content = encoded(Image.fromarray(np.full((4, 4), value, np.uint16)))
        assert pixel(decode(content)) == (value >> 8,) * 3


def test_16_bit_colour() -> None:
    """Pillow cannot write this, so it is written by hand."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for colour_type, channels in ((2, (0x1234, 0xABCD, 0xFFFF)), (6, (0x1234, 0xABCD, 0xFFFF, 0xFFFF))):
        row = b"\0" + struct.pack(f">{len(channels)}H", *channels)
        header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
        content = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
        )
        np.testing.assert_allclose(pixel(decode(content)), (0x12, 0xAB, 0xFF), atol=1)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, RED)]
    for format in ("PNG", "WEBP"):
        settings = {"lossless": True} if format == "WEBP" else {}
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **settings)
        assert pixel(decode(content)) == GREEN


# --- what is no image -----------------------------------------------------------------------------------------------


# orientation 6, and a resolution that is a text where a number belongs
BROKEN_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x02\0\0\0\x02a\0\0\0\0\0\0\0"


def bomb() -> bytes:
    """A PNG of a few hundred bytes that announces 900 million pixels."""
    content = bytearray(encoded(Image.new("1", (8, 8))))
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"this is a text", "not a JPEG, PNG, WEBP or BMP image"),
        (encoded(corners(), "GIF"), "not a JPEG, PNG, WEBP or BMP image"),
        (encoded(corners(), "TIFF"), "not a JPEG, PNG, WEBP or BMP image"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-300], "damaged: image file is truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:-300], "damaged: image file is truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "BMP")[:-300], "damaged: image file is truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "WEBP")[:-300], "damaged: "),
        (encoded(corners(), "JPEG")[:200], ""),
        (bomb(), f"more than {MAX_PIXELS:,} pixels"),
        (encoded(Image.new("1", (8_001, 8_000))), f"8001×8000 pixels are more than {MAX_PIXELS:,}"),
        (encoded(Image.new("1", (10_000, 9_500))), f"more than {MAX_PIXELS:,} pixels"),
        # found by fuzzing: an orientation beside a broken tag makes Pillow raise TypeError or struct.error
        (encoded(corners(), "JPEG", exif=BROKEN_EXIF), "damaged: "),
    ],
)  # fmt: skip
def test_bad_images(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(content)
    assert str(caught.value).startswith(reason)


def test_damaged_metadata_is_reported_and_leaves_no_filters() -> None:
    """Warnings of Pillow become errors, in many threads at once, without touching anybody else's filters."""
    good = encoded(Image.new("RGB", (8, 8), RED))
    bad = encoded(corners(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    before = list(warnings.filters)

    def outcome(number: int) -> str:
        try:
            return decode(bad if number % 2 else good).mode
        except BadImage as reason:
            return str(reason)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, range(400)))
    assert outcomes[::2] == ["RGB"] * 200
    assert all(reason.startswith("damaged: ") for reason in outcomes[1::2])
    assert warnings.filters == before


# --- fitting --------------------------------------------------------------------------------------------------------


def test_right_size_is_left_alone() -> None:
    pixels = making.images(1, 24)[0]
    np.testing.assert_array_equal(Preprocess(size=24)(encoded(Image.fromarray(pixels))), pixels)


def test_crop_keeps_the_centre() -> None:
    image = Image.new("RGB", (30, 10), RED)
    image.paste(GREEN, (10, 0, 20, 10))
    for turned in (image, image.transpose(Image.Transpose.ROTATE_90)):
        assert (Preprocess(size=10).fit(turned) == GREEN).all()


def test_pad_keeps_everything() -> None:
    padded = Preprocess(size=30, resize="pad").fit(Image.new("RGB", (30, 10), WHITE))
    assert (padded[10:20] == 255).all()
    assert (padded[:10] == 0).all()
    assert (padded[20:] == 0).all()


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(Preprocess(size=8).fit(Image.fromarray(stripes)), 127, atol=6)


@pytest.mark.parametrize("resize", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (31, 33)])
def test_extreme_shapes(resize: Any, shape: tuple[int, int]) -> None:
    fitted = Preprocess(size=32, resize=resize).fit(Image.new("RGB", shape, "white"))
    assert fitted.shape == (32, 32, 3)
    assert fitted.max() == 255, "something of it is there"


def test_fit_array_is_fit_for_each() -> None:
    preprocess, pixels = Preprocess(size=12), making.images(5, 20)
    fitted = preprocess.fit_array(pixels)
    assert fitted.dtype == np.uint8
    for image, one in zip(pixels, fitted, strict=True):
        np.testing.assert_array_equal(preprocess.fit(Image.fromarray(image)), one)
    assert preprocess.fit_array(fitted) is fitted
    assert preprocess.fit_array(pixels[:0]).shape == (0, 12, 12, 3)


def test_settings_are_frozen_and_strict() -> None:
    assert Preprocess(size=32).model_dump() == {"size": 32, "resize": "crop"}
    with pytest.raises(ValidationError):
        Preprocess(size=32, resize="stretch")
    with pytest.raises(ValidationError):
        Preprocess.model_validate({"size": 32, "mean": 0.5})
