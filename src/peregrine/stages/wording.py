"""How numbers and names are written for people, the same in pictures, on the report's page and in the model card."""


def percent(share: float) -> str:
    """A share with one decimal: `83.4%`; only everything is 100% and only nothing is 0%."""
    if 0.9995 <= share < 1:
        return "> 99.9%"
    return "< 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def exact_percent(share: float) -> str:
    """A share with two decimals: `90.17%`, `100.00%` of everything alone."""
    return f"{100 * share:.2f}%" if share == 1 or share < 0.99995 else "> 99.99%"


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


def ratio(value: float) -> str:
    """How many times as much: `3.62×`, `0.91×`, `12.3×`."""
    return f"{number(value)}×"


def power(value: float) -> str:
    """A difference of probabilities: `0.0123`, `2.4 × 10⁻⁷`."""
    if value == 0 or value >= 0.001:
        return f"{value:.4f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def when(timestamp: str) -> str:
    """`2026-11-21 10:15 UTC` of `2026-11-21T10:15:00Z`."""
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"


def sentence(text: str) -> str:
    """With a capital at the start and a full stop at the end, where they are missing."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def short(name: str, length: int) -> str:
    """A name in at most `length` letters, its middle left out; control characters become `�`."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    if len(clean) <= length:
        return clean
    tail = length // 3
    return f"{clean[: length - tail - 1]}…{clean[-tail:]}"
