"""How numbers and names are written for people, the same in pictures and on the report's page."""


def percent(share: float) -> str:
    """A share with one decimal: `83.4%`; only everything is 100% and only nothing is 0%."""
    if 0.9995 <= share < 1:
        return "> 99.9%"
    return "< 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def sure(probability: float) -> str:
    """A probability as a whole percentage, rounded down: 99.9% must not read as certain, nor 0.4% as impossible."""
    if 0 < probability < 0.01:
        return "< 1%"
    return f"{int(100 * probability + 1e-6)}%"


def count(number: int, noun: str) -> str:
    """`1 image`, `10,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    """The verb that goes with a number: `1 is`, `2 are`."""
    return "is" if number == 1 else "are"


def number(value: float) -> str:
    """Three significant digits, thousands separated: `0.512`, `12.3`, `12,340`."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def points(value: float) -> str:
    """A change in percentage points with its sign: `+0.07`, `−0.12`, `0.00`."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def duration(seconds: float) -> str:
    """`0.84 s`, `47.3 s`, `3 min 12 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def size(size_bytes: int) -> str:
    """`812 kB`, `44.7 MB`: powers of ten, as disks are sold."""
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 999_500 else f"{size_bytes / 1e6:,.1f} MB"


def short(name: str, length: int) -> str:
    """A name in at most `length` letters, its middle left out; control characters become `�`."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    if len(clean) <= length:
        return clean
    tail = length // 3
    return f"{clean[: length - tail - 1]}…{clean[-tail:]}"
