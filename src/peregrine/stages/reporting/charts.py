"""What a chart on the page is: places in percent of its frame, so that it fits any width while its letters keep theirs.

The template draws it as SVG (`chart.html.j2`); nothing here knows of HTML.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

UNITS = 1000.0  # a line's points count from 0 to this, across and down
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in percent of the frame from its left or top edge, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """Values to places.

    Attributes:
        low, high: values at the left and right, or bottom and top, edge.
        text: writes a tick.
        log: equal ratios are equally far apart; `low` is above 0.
        whole: ticks are whole numbers.
        at: ticks are here, and not at round values.
    """

    label: str
    low: float
    high: float
    text: Callable[[float], str]
    log: bool = False
    whole: bool = False
    at: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Where a value stands between `low` (0) and `high` (1)."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        place = math.log(value) if self.log else value
        return (place - low) / (high - low) if high > low else 0.5

    def ticks(self, most: int = 5) -> list[Tick]:
        """About `most` round values, in percent from the left."""
        if self.at:
            values = list(self.at)
        elif self.log:
            values = _round_in_ratios(self.low, self.high)
        else:
            values = _round(self.low, self.high, most, self.whole)
        return [Tick(100 * self.share(value), self.text(value)) for value in values]


@dataclass(frozen=True)
class Point:
    """One value of a chart.

    Attributes:
        x, y: percent of the frame from its left and top edges.
        tip: the value in words.
        target: id of the row that tells more; "" where there is none.
        mark: what is written inside, a row's number.
        kinds: more CSS classes.
        about: what a filter looks at, by name.
    """

    x: float
    y: float
    tip: str
    target: str = ""
    mark: str = ""
    kinds: tuple[str, ...] = ()
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """Points that belong together; `kind` is the CSS class of their colour.

    Attributes:
        line: the points that a line goes through, in `UNITS`, "x,y x,y"; "" for none.
    """

    name: str
    kind: str
    points: tuple[Point, ...]
    line: str = ""


@dataclass(frozen=True)
class Bar:
    """A rectangle, in percent of the frame."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    tip: str


@dataclass(frozen=True)
class Rule:
    """A straight line to compare with, in percent of the frame, and its name for the legend."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    name: str = ""


@dataclass(frozen=True)
class Chart:
    """A whole chart.

    Attributes:
        name: its id on the page.
        title: what was found.
        reading: how to read it.
        columns, rows: the same numbers as a table, for those who do not see the picture.
        near: what the pointer finds: all points above it (`x`), or the closest (`xy`).
    """

    name: str
    title: str
    reading: str
    across: Axis
    up: Axis
    series: tuple[Series, ...] = ()
    bars: tuple[Bar, ...] = ()
    rules: tuple[Rule, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    near: str = "x"

    @property
    def x_ticks(self) -> list[Tick]:
        return self.across.ticks(6)

    @property
    def y_ticks(self) -> list[Tick]:
        return [Tick(100 - tick.at, tick.text) for tick in self.up.ticks(5)]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """CSS class and name of everything that has a name, once each."""
        parts: list[Series | Rule] = [*self.series, *self.rules]
        return list(dict.fromkeys((part.kind, part.name) for part in parts if part.name))


def place(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    """Percent of the frame from its left and top edges."""
    return round(100 * across.share(x), 3), round(100 * (1 - up.share(y)), 3)


def line_through(points: Sequence[Point]) -> str:
    """The points of a line, in `UNITS`."""
    scale = UNITS / 100
    return " ".join(f"{scale * point.x:.1f},{scale * point.y:.1f}" for point in points)


def padded(values: Sequence[float], share: float = 0.08, least: float = 0.0) -> tuple[float, float]:
    """The range of some values with a margin of this share on both sides, and at least `least` wide."""
    low, high = min(values), max(values)
    margin = max(share * (high - low), (least - (high - low)) / 2)
    return low - margin, high + margin


def padded_in_ratios(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """`padded` for a logarithmic axis: at least a factor of two wide."""
    low, high = padded([math.log(value) for value in values], share, math.log(2))
    return math.exp(low), math.exp(high)


def _round(low: float, high: float, most: int, whole: bool) -> list[float]:
    """Up to `most` multiples of a round step."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _round_in_ratios(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … between the ends; fewer of them over many powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= 6:
            break
    return found
