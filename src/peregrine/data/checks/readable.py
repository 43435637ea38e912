"""The image files themselves: which cannot be read and why, names that mislead, odd sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from peregrine import catalog, progress
from peregrine.data import exclusions, sources, store
from peregrine.data.base import LeftOut, Options
from peregrine.data.checks.base import Case, Finding, Member, are, count, finding
from peregrine.data.store import ImageFile
from peregrine.errors import DataError
from peregrine.preprocess import FORMATS, BadImage, decode, dimensions

_HEAD_BYTES = 1 << 18  # nearly always enough to know an image's size
_BLOWN_UP = 2  # an image is odd from here: side it is prepared at over its own shorter side
_LONG = 2  # likewise: longer over shorter side

_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "PDF"),
)


@dataclass(frozen=True)
class Look:
    """What the beginning of a file tells: its format by its first bytes, and width and height; None where unknown."""

    format: str | None
    shape: tuple[int, int] | None


def image_files(source: str | Path, options: Options) -> list[ImageFile]:
    """The files that the images of `source` are in, one each; empty where they are not in files of their own."""
    if isinstance(source, str) and source in catalog.CATALOG["source"]:
        return []
    location = Path(sources.identity(source))
    layouts = (catalog.load("layout", key) for key in catalog.CATALOG["layout"])
    layout = next((layout for layout in layouts if layout.recognises(location)), None)
    if layout is None or not hasattr(layout, "scan"):  # layouts whose images are files have it
        return []
    left_out = exclusions.recall(str(location)).ids
    try:
        return [image for image in layout.scan(location, options.seed)[0] if image.id not in left_out]
    except DataError:
        return []  # loading says it


def undecodable(images: Sequence[ImageFile]) -> tuple[LeftOut, ...]:
    """The files that cannot be decoded, for data that fail to load before they are told."""

    def attempt(image: ImageFile) -> LeftOut | None:
        try:
            decode(store.read(image.path))
        except BadImage as bad:
            return LeftOut(image.id, str(bad))
        return None

    with progress.bar("read images", len(images), "image") as advance:
        found = []
        for bad in store.parallel(attempt, images):
            found += [bad] if bad else []
            advance()
    return tuple(found)


def unread(left_out: Sequence[LeftOut], images: Sequence[ImageFile]) -> list[Finding]:
    """What could not be read, by reason."""
    known = {image.id: image for image in images}
    cases: dict[str, list[Case]] = {"empty-file": [], "truncated": [], "unreadable": []}
    for bad in left_out:
        image = known.get(bad.id)
        rule, reason = _reason(bad, image.path) if image else ("unreadable", bad.reason)
        member = Member(bad.id, image.split if image else "", image.class_name if image else "")
        cases[rule].append(Case((member,), reason))
    return [
        *finding(
            "unreadable", f"{_files(cases['unreadable'])} cannot be read; repair or remove them", cases["unreadable"]
        ),
        *finding("empty-file", f"{_files(cases['empty-file'])} without content; get them again", cases["empty-file"]),
        *finding("truncated", f"{_files(cases['truncated'])} cut off; get them again", cases["truncated"]),
    ]


def misnamed_and_odd(
    images: Sequence[ImageFile], left_out: Sequence[LeftOut], side: int | None, resize: str
) -> list[Finding]:
    """Files whose names mislead, and images that suffer from being made square.

    Args:
        side: in pixels, of the square images that they become; None where that is not known.
        resize: `crop` or `pad`.
    """
    bad = {one.id for one in left_out}
    readable = [image for image in images if image.id not in bad]
    misnamed, odd = [], []
    with progress.bar("look at files", len(readable), "image") as advance:
        for image, look in zip(readable, store.parallel(_look, readable), strict=True):
            member = Member(image.id, image.split, image.class_name)
            suffix = PurePath(image.path).suffix.lower()
            if look.format and look.format != _SUFFIXES.get(suffix):
                misnamed.append(Case((member,), f"is a {look.format} file"))
            if side and look.shape and (why := _oddity(look.shape, side, resize)):
                odd.append(Case((member,), why))
            advance()
    return [
        *finding(
            "wrong-suffix",
            f"{_files(misnamed)} in another format than named for; rename them, other programs may refuse them",
            misnamed,
        ),
        *finding(
            "odd-size",
            f"{count(len(odd))} {are(len(odd))} far from the size or shape of a {side}×{side} square; "
            "look whether enough is left to see",
            odd,
        ),
    ]


def _reason(bad: LeftOut, path: str) -> tuple[str, str]:
    """Which rule an unreadable file breaks, and what is to be said of it."""
    try:
        content = store.read(path)
    except BadImage as error:
        return "unreadable", str(error)
    if not content:
        return "empty-file", "0 bytes"
    kind = _format(content)
    if kind in FORMATS and _ends_early(content, kind, bad.reason):
        return "truncated", f"a {kind} file that ends after {len(content):,} bytes"
    return "unreadable", bad.reason if kind in (None, *FORMATS) else f"{bad.reason} but a {kind} file"


def _ends_early(content: bytes, kind: str, reason: str) -> bool:
    """Whether an image that cannot be decoded lacks its end, by what its format says of the end."""
    if kind == "JPEG":
        early = content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")  # no end after the last scan's beginning
    elif kind == "PNG":
        early = b"IEND" not in content[-64:]
    elif kind == "WEBP":
        early = int.from_bytes(content[4:8], "little") + 8 > len(content)
    else:
        early = int.from_bytes(content[2:6], "little") > len(content)
    return early or "truncated" in reason.lower()


def _look(image: ImageFile) -> Look:
    try:
        with Path(image.path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return Look(None, None)
    return Look(_format(head), _shape(head) or (_shape(_whole(image.path)) if len(head) == _HEAD_BYTES else None))


def _shape(content: bytes) -> tuple[int, int] | None:
    try:
        return dimensions(content)
    except BadImage:
        return None


def _whole(path: str) -> bytes:
    try:
        return store.read(path)
    except BadImage:
        return b""


def _format(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if content.startswith(signature)), None)


def _oddity(shape: tuple[int, int], side: int, resize: str) -> str:
    """Why an image of this width and height is odd; empty if it is not."""
    short, long = sorted(shape)
    said = f"{shape[0]}×{shape[1]} pixels"
    if long > _LONG * short:
        lost = f"{1 - short / long:.0%}"
        return f"{said}, of which the crop loses {lost}" if resize == "crop" else f"{said}, which leaves {lost} black"
    scaled = short if resize == "crop" else long  # becomes as long as the square's side
    if scaled * _BLOWN_UP < side:
        return f"{said}, blown up {side / scaled:.1f} times"
    return ""


def _files(cases: Sequence[Case]) -> str:
    return count(len(cases), "file")
