"""What the tests of pictures share: sizes, strange names, made-up answers, and a look at the file."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from peregrine import metrics

NARROW, WIDE = 1350, 1950  # pixels: 9 and 13 inches at 150 dpi
HOSTILE = ("<script>alert(1)</script>", "$\\frac{1}{0$", "熊猫宝宝", "🦊", "dog\u202egod\n", "%s{0}\\", "n" * 300, " ")


def title(path: Path, width: int = NARROW) -> str:
    """The picture's title, after checking that it is a whole PNG of this width and that nothing else lies there."""
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size[0] == width
        assert 300 < picture.size[1] < 2_600
        assert sum(1 for pixels in picture.convert("L").histogram() if pixels) > 20, "the picture is empty"
        assert picture.info["Description"]
        words: str = picture.info["Title"]
    assert not list(path.parent.glob(".tmp-*"))
    return words


def answers(labels: Any, classes: int, accuracy: float = 0.8, seed: int = 0) -> metrics.Floats:
    """Made-up probabilities, right for about this share of the images."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), classes))
    named = np.where(generator.random(len(labels)) < accuracy, labels, generator.integers(0, classes, len(labels)))
    logits[np.arange(len(labels)), named] += generator.uniform(1, 6, len(labels))
    return metrics.softmax(logits)
