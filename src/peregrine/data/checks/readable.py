"""The image files themselves: which cannot be read and why, names that mislead, odd sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from peregrine import progress
from peregrine.data import packing
from peregrine.data.base import Entry, LeftOut, Listing, Read
from peregrine.data.checks.base import Case, Finding, Member, are, count, finding
from peregrine.preprocess import FORMATS, BadImage, decode, dimensions

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
    """What a file tells without being decoded: format, and width and height; None where unknown."""

    format: str | None
    shape: tuple[int, int] | None


def undecodable(listing: Listing) -> tuple[LeftOut, ...]:
    """The files that cannot be decoded, for data that fail to load before they are told."""

    def attempt(read: Read) -> str:
        try:
            decode(read())
        except BadImage as bad:
            return str(bad)
        return ""

    with progress.bar("read images", len(listing.entries), "image") as advance:
        found = []
        reasons = packing.parallel(attempt, listing.contents(listing.entries))
        for entry, reason in zip(listing.entries, reasons, strict=True):
            found += [LeftOut(entry.id, reason)] if reason else []
            advance()
    return tuple(found)


def unread(left_out: Sequence[LeftOut], listing: Listing | None) -> list[Finding]:
    """What could not be read, by reason."""
    ids = {bad.id: bad.reason for bad in left_out}
    known = [entry for entry in listing.entries if entry.id in ids] if listing else []
    reads = listing.contents(known) if listing else iter(())
    looked = {entry.id: (entry, *_reason(ids[entry.id], read)) for entry, read in zip(known, reads, strict=True)}
    cases: dict[str, list[Case]] = {"empty-file": [], "truncated": [], "unreadable": []}
    for bad in left_out:
        entry, rule, reason = looked.get(bad.id, (None, "unreadable", bad.reason))
        member = Member(bad.id, entry.split if entry else "", entry.class_name if entry else "")
        cases[rule].append(Case((member,), reason))
    return [
        *finding(
            "unreadable", f"{_files(cases['unreadable'])} cannot be read; repair or remove them", cases["unreadable"]
        ),
        *finding("empty-file", f"{_files(cases['empty-file'])} without content; get them again", cases["empty-file"]),
        *finding("truncated", f"{_files(cases['truncated'])} cut off; get them again", cases["truncated"]),
    ]


def misnamed_and_odd(listing: Listing, left_out: Sequence[LeftOut], side: int | None, resize: str) -> list[Finding]:
    """Files whose names mislead, and images that suffer from being made square.

    Args:
        listing: of all images, readable or not.
        left_out: those that are not.
        side: in pixels, of the square images that they become; None where that is not known.
        resize: `crop` or `pad`.
    """
    bad = {one.id for one in left_out}
    readable = [entry for entry in listing.entries if entry.id not in bad]
    misnamed, odd = [], []
    with progress.bar("look at files", len(readable), "image") as advance:
        for entry, look in zip(readable, packing.parallel(_look, listing.contents(readable)), strict=True):
            member = Member(entry.id, entry.split, entry.class_name)
            named_for = _named_for(entry)
            if look.format and named_for and look.format != named_for:
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


def _reason(said: str, read: Read) -> tuple[str, str]:
    """Which rule an unreadable file breaks, and what is to be said of it."""
    try:
        content = read()
    except BadImage as error:
        return "unreadable", str(error)
    if not content:
        return "empty-file", "0 bytes"
    kind = _format(content)
    if kind in FORMATS and _ends_early(content, kind, said):
        return "truncated", f"a {kind} file that ends after {len(content):,} bytes"
    return "unreadable", said if kind in (None, *FORMATS) else f"{said} but a {kind} file"


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


def _named_for(entry: Entry) -> str | None:
    """The format that a name promises; None for a row of a table, which has no name."""
    return _SUFFIXES.get(PurePath(entry.id).suffix.lower())


def _look(read: Read) -> Look:
    try:
        content = read()
    except BadImage:
        return Look(None, None)
    try:
        return Look(_format(content), dimensions(content))
    except BadImage:
        return Look(_format(content), None)


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
