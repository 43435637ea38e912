"""How many mistakes corrupted images cost."""

from pathlib import Path

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle

from peregrine.corruptions import corrupt
from peregrine.dataset import Images
from peregrine.stages.plots.frame import INK, MUTED, WRONG_SHADES, Row, picture
from peregrine.stages.wording import count, percent

GAP = 0.3  # between groups, in cells
ROW = 0.36  # inches
SHOWN = 3  # severity of the example
GROUPS = {"noise": 3, "blur": 4, "weather": 4, "digital": 4}  # in the paper's order


def robustness(result: Row, example: Images, path: Path) -> None:
    """Draw the error under each corruption at each severity, with the means, and what each looks like.

    Args:
        result: what `measure_robustness` returns.
        example: uint8 `(H, W, 3)`.
    """
    errors = np.array(list(result["corruptions"].values()))
    names = [name.replace("_", " ") for name in result["corruptions"]]
    means = errors.mean(1)
    mean, clean = (percent(result[key]) for key in ("mean_corruption_error", "clean_error"))
    title = f"Mean corruption error {mean}, clean {clean}; hardest: {names[means.argmax()]}, {percent(means.max())}"
    low, high = (max(0.0, min(1.0, end)) for end in result["interval"])
    reading = (
        f"Share of wrong answers on {count(result['images'], 'image')}, as strongly corrupted as {result['settings']}. "
        f"Mean with its 95% interval: {percent(low)} to {percent(high)}. Pictures: severity {SHOWN}."
    )
    starts = np.repeat(np.arange(len(GROUPS)), list(GROUPS.values()))
    tops = np.arange(len(names)) + GAP * starts
    bottom = float(tops[-1] + 1 + GAP)
    table = np.block([[errors, means[:, None]], [errors.mean(0), errors.mean()]])
    lefts = np.append(np.arange(errors.shape[1]), errors.shape[1] + GAP)
    with picture(path, title, reading, height=0.4 + ROW * (bottom + 1)) as figure:
        axes = figure.subplots()
        highest = max(float(table.max()), 1e-9)
        for top, row in zip(np.append(tops, bottom), table, strict=True):
            for left, error in zip(lefts, row, strict=True):
                shade = error / highest
                axes.add_patch(Rectangle((left, top), 0.97, 0.94, color=WRONG_SHADES(shade)))
                colour = "white" if shade > 0.6 else INK
                text = axes.text(
                    left + 0.485, top + 0.47, percent(error), ha="center", va="center_baseline", color=colour
                )
                text.set_in_layout(False)  # measuring many texts takes longer than drawing them
        zoom = 0.92 * ROW * 72 / len(example)
        for top, name in zip(tops, result["corruptions"], strict=True):
            thumbnail = OffsetImage(corrupt(example[None], name, SHOWN)[0], zoom=zoom)
            axes.add_artist(AnnotationBbox(thumbnail, (-0.5, top + 0.47), frameon=False, pad=0))
        axes.set_yticks([*(tops + 0.47), bottom + 0.47], [*names, "mean"])
        axes.set_xticks(lefts + 0.485, [*(f"severity {number + 1}" for number in range(errors.shape[1])), "mean"])
        axes.set(xlim=(-0.8, lefts[-1] + 0.97), ylim=(bottom + 0.94, 0))
        axes.xaxis.tick_top()
        for group, size in GROUPS.items():
            first = int(np.flatnonzero(starts == list(GROUPS).index(group))[0])
            axes.annotate(
                group, (1, tops[first] + size / 2), (8, 0), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", rotation=270, va="center", color=MUTED,
            )  # fmt: skip
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
