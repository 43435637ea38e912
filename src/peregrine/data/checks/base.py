"""What a check can find: the table of rules, and the form of a finding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """Something that data can be checked for. Its id never changes its meaning.

    Attributes:
        id: its name on the command line, in JSON and in CSV.
        level: `error` spoils scores or training; `warning` is worth a look.
        title: a heading.
        meaning: one sentence.
    """

    id: str
    level: Level
    title: str
    meaning: str


_TABLE = (
    Rule("unreadable", "error", "Unreadable files", "The file is no image that can be decoded."),
    Rule("empty-file", "error", "Empty files", "The file has no bytes."),
    Rule("truncated", "error", "Truncated files", "The file begins as an image and ends too early."),
    Rule("untrainable", "error", "Data that cannot be loaded", "What can be read does not make a data set."),
    Rule("leakage", "error", "Copies across splits", "The same pixels are in two splits: scores come out too good."),
    Rule(
        "near-leakage",
        "error",
        "Near copies across splits",
        "Nearly the same picture is in two splits: recompressed, shifted by a pixel, brighter or darker.",
    ),
    Rule("conflict", "error", "Copies with different labels", "The same pixels have different labels."),
    Rule("missing-class", "error", "Missing classes", "A split has no image of a class."),
    Rule("wrong-suffix", "warning", "Wrong suffixes", "The file's content is of another format than its name says."),
    Rule(
        "odd-size",
        "warning",
        "Odd sizes",
        "The image is blown up more than twice, or so long that fitting it into a square loses half of it.",
    ),
    Rule(
        "near-conflict", "warning", "Near copies with different labels", "Nearly the same picture has different labels."
    ),
    Rule("duplicate", "warning", "Copies in a split", "The same pixels are twice in one split."),
    Rule("near-duplicate", "warning", "Near copies in a split", "Nearly the same picture is twice in one split."),
    Rule("imbalance", "warning", "Imbalance", "The largest class of a split has ten times the smallest one's images."),
    Rule("blank", "warning", "Blank images", "All pixels have the same colour."),
    Rule("grey", "warning", "Grey images", "The image has no colour, and most others have."),
    Rule(
        "label-error",
        "warning",
        "Likely label errors",
        "A classifier that has not seen the image is sure of another label.",
    ),
)

RULES = {rule.id: rule for rule in _TABLE}


@dataclass(frozen=True)
class Member:
    """An image in a finding, or a class as a whole, which has no id.

    Attributes:
        id: as in the data set.
        split: `train`, `validation` or `test`.
        class_name: its label.
        index: where it is among the data's readable images, see `Pool`; None where there are no pixels to show.
    """

    id: str
    split: str
    class_name: str
    index: int | None = None


@dataclass(frozen=True)
class Case:
    """One instance of what was found.

    Attributes:
        members: the image, the images that are copies of each other, or the class.
        detail: what is to be said of this one; may be empty.
        score: how certain it is, 0 to 1, where that is known; cases come with the most certain first.
        suggestion: the label that is more likely, where one is.
    """

    members: tuple[Member, ...]
    detail: str = ""
    score: float | None = None
    suggestion: str = ""


@dataclass(frozen=True)
class Finding:
    """All instances of one thing that is wrong.

    Attributes:
        rule: what it is.
        message: what was found, and what to do, in one line.
        cases: at least one.
    """

    rule: Rule
    message: str
    cases: tuple[Case, ...]


def finding(rule: str, message: str, cases: Sequence[Case]) -> list[Finding]:
    """The finding of these cases; none where there are none."""
    return [Finding(RULES[rule], message, tuple(cases))] if cases else []


def count(number: int, noun: str = "image") -> str:
    """`1 image`, `10,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def have(number: int) -> str:
    """The verb that goes with a number: `1 has`, `2 have`."""
    return "has" if number == 1 else "have"


def are(number: int) -> str:
    """The verb that goes with a number: `1 is`, `2 are`."""
    return "is" if number == 1 else "are"
