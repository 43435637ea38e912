"""What all pictures share: the frame with its title, the colours and the letters.

Right is blue and wrong is orange, told apart by every kind of colour vision, and never by the colour alone.
"""

import contextlib
import functools
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from peregrine import files
from peregrine.errors import UsageError

DPI = 150
WIDTH = 9.0  # inches; most pictures share it, so that their letters have one size in the report
WIDE = 13.0  # inches; for many classes
MARGIN = 0.2  # inches, left of the title and of everything below it

INK, MUTED, GRID, PAPER = "#1c2733", "#5b6875", "#e3e7eb", "#f5f7f9"
RIGHT, WRONG, NEUTRAL = "#1f6fb2", "#c9520c", "#8b97a3"
RIGHT_PALE, WRONG_PALE, NEUTRAL_PALE = "#b5d2eb", "#f5c4a3", "#d9dfe4"
RIGHT_SHADES = LinearSegmentedColormap.from_list("right", ["#eef4fa", RIGHT_PALE, RIGHT, "#0d3f6b"])
WRONG_SHADES = LinearSegmentedColormap.from_list("wrong", ["#fdf3ec", WRONG_PALE, WRONG, "#7d2e02"])

# For what matplotlib's own font lacks; each is used where it is installed.
MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Microsoft YaHei",
    "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji",
)  # fmt: skip

Row = Mapping[str, Any]

_STYLE = {
    "text.parse_math": False,  # a class may be called "$5$"
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": NEUTRAL,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "hatch.color": "white",
    "hatch.linewidth": 0.8,
}


def check_name(path: Path) -> None:
    """Make sure that a picture can have this name, before long work starts.

    Raises:
        UsageError: it is no PNG's.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"a picture is a .png file; got {path}")


@contextlib.contextmanager
def picture(path: Path, title: str, reading: str, *, height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield a Figure with its header, and write it as PNG when the block ends well.

    Axes from `figure.subplots` fill the body; `box` and `write` place things by hand.

    Args:
        title: what was found, with numbers.
        reading: how to read the picture.
        height: of the body, below the header, in inches.
        width: in inches.
    """
    lines, notes = textwrap.wrap(title, int(width * 9.2)), textwrap.wrap(reading, int(width * 14.2))
    header = 0.24 + 0.24 * len(lines) + 0.17 * len(notes)
    total = height + header
    style: Any = {**_STYLE, "font.family": _families()}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # No font has every script. A box in a picture is better than a warning that nobody can act on; the report's
        # tables, drawn by the browser, show the name.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support .* natively", UserWarning)
        left = MARGIN / width
        layout = ConstrainedLayoutEngine(rect=(left, 0.1 / total, 1 - 2 * left, (height - 0.1) / total))
        figure = Figure(figsize=(width, total), dpi=DPI, layout=layout)
        write(figure, MARGIN, total - 0.12, "\n".join(lines), va="top", fontsize=13, fontweight="bold")
        below = total - 0.16 - 0.24 * len(lines)
        write(figure, MARGIN, below, "\n".join(notes), va="top", fontsize=9, color=MUTED)
        yield figure
        with files.writing(path) as temporary:
            figure.savefig(
                temporary, format="png", metadata={"Title": title, "Description": reading, "Software": "peregrine"}
            )


def box(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the lower left corner; the figure lays out nothing by itself any more."""
    figure.set_layout_engine("none")
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write(figure: Figure, left: float, height: float, text: str, **style: Any) -> None:
    """Text at a place in inches from the lower left corner, centred on its height unless told otherwise."""
    across, up = figure.get_size_inches()
    figure.text(left / across, height / up, text, **{"va": "center_baseline", "linespacing": 1.25, **style})


@FuncFormatter
def percent_ticks(share: float, _position: int | None) -> str:
    """Tick labels in percent, with decimals only where they are needed."""
    return f"{round(100 * share, 6):g}%"


@functools.cache
def _families() -> list[str]:
    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]
