"""Near copies: the same picture recompressed, shifted by a pixel, brighter or darker.

Two steps. A perceptual hash proposes pairs: the lowest frequencies of luminance and colour, by a discrete cosine
transform as in pHash, but whitened over the data set and kept as numbers instead of signs; two images are a proposal
if the cosine between theirs is high. All pairs are compared, by blocks of matrix products, on a GPU where that is
faster: of whole numbers, so that every device proposes the same pairs. Then pixels decide: the
details of both images, a band between two blurs, have to correlate at the best shift by a pixel, and more than
different images of this data do. Low frequencies alone do not decide, because one blue sky is like another; correlation
does not see gain and offset.

Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1 (DCT).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from peregrine import arrays, progress
from peregrine.data.checks.pool import Indices, Pool
from peregrine.data.checks.thumbnails import shrunk
from peregrine.dataset import Images

SMALLEST_SIDE = 16  # below, different images look alike and a shift by a pixel is large
ALIKE = 0.85  # correlation of details that near copies have at least; see docs/adr/0016-data-check.md
PROPOSED = 0.7  # cosine of hashes from which pixels are looked at

_HASH_SIDE = 32
_DETAIL_SIDE = 64
_LUMINANCE, _COLOUR = 4, 8  # pixels per frequency in each direction, so that a shift by one turns them little
_FINE, _COARSE = 0.6, 2.0  # standard deviations in pixels of the two blurs
_CONTRAST = 2.0  # of 255: standard deviation of the luminance below which an image has nothing to compare
_ROWS = 2048  # hashes compared at once
# A unit vector's numbers are rounded to this many steps, which moves a cosine by some 2e-4. Products of two such rows
# and all sums on the way are whole numbers below 2^24: exact in float32, in any order, and in TF32 with its 11 bits.
_STEPS = 2047
_PAIRS = 512  # pairs of images compared at once
_RANDOM_PAIRS = 4096  # that tell what chance brings
_PROPOSALS = 20  # per image, the best; frames of a video would be proposed by the million

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """Near copies: the more alike first.

    Attributes:
        indices: `(P, 2)` into a pool, the smaller first.
        scores: `(P,)`, correlation of the details, up to 1.
    """

    indices: Indices
    scores: Floats


def find(pool: Pool, chosen: Indices) -> Pairs:
    """All pairs of near copies among the `chosen` images of a pool."""
    hashes, usable = _hashes(pool, chosen)
    places = chosen[usable]
    pairs = places[propose(hashes[usable])]
    scores = confirm(pool, pairs)
    order = np.flatnonzero(scores >= max(ALIKE, by_chance(pool, places)))
    order = order[np.argsort(-scores[order], kind="stable")]
    return Pairs(pairs[order], scores[order])


def _hashes(pool: Pool, chosen: Indices) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """A unit vector for each chosen image, `(n, D)`, and which have enough contrast to be compared."""
    found, contrast = [], []
    with progress.bar("hash images", len(chosen), "image") as advance:
        for images in _gathered(pool, chosen):
            coefficients, deviation = _frequencies(shrunk(images, _HASH_SIDE))
            found.append(coefficients)
            contrast.append(deviation)
            advance(len(images))
    hashes = np.concatenate(found)
    spread = np.sqrt(np.square(hashes).mean(0))
    hashes /= np.where(spread > 1e-3, spread, np.inf)  # what no image has says nothing: grey data have no colour
    lengths = np.linalg.norm(hashes, axis=1, keepdims=True)
    return hashes / np.maximum(lengths, 1e-6), np.concatenate(contrast) >= _CONTRAST


def _gathered(pool: Pool, chosen: Indices) -> Iterator[Images]:
    for place, images in pool.blocks():
        first, last = np.searchsorted(chosen, [place.start, place.stop])
        if last > first:
            yield images[chosen[first:last] - place.start]


def _frequencies(images: Images) -> tuple[Floats, Floats]:
    """Lowest frequencies of luminance and of two colour differences, `(n, D)`, and the luminance's contrast.

    Of 32 pixels, 8 × 8 and twice 4 × 4 without the mean brightness: D is 95.
    """
    red, green, blue = (images[..., channel].astype(np.float32) for channel in range(3))
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    basis = _cosines(images.shape[1], images.shape[1] // _LUMINANCE)
    low = np.einsum("ux,nxy,vy->nuv", basis, luminance, basis, optimize=True).reshape(len(images), -1)[:, 1:]
    few = basis[: images.shape[1] // _COLOUR]
    colours = [
        np.einsum("ux,nxy,vy->nuv", few, channel - luminance, few, optimize=True).reshape(len(images), -1)
        for channel in (blue, red)
    ]
    return np.concatenate([low, *colours], axis=1), luminance.std((1, 2))


def _cosines(side: int, number: int) -> Floats:
    """The first rows of the orthonormal DCT-II, `(number, side)`."""
    frequency, place = np.arange(number)[:, None], np.arange(side)[None]
    basis = np.cos(np.pi * frequency * (2 * place + 1) / (2 * side)) * np.sqrt(2 / side)
    basis[0] /= np.sqrt(2)
    rows: Floats = basis.astype(np.float32)
    return rows


def propose(hashes: Floats, place: arrays.Place | None = None) -> Indices:
    """Pairs `(P, 2)` of rows, the smaller first, of unit vectors `(n, D)` whose cosine is at least `PROPOSED`.

    Args:
        place: where they are compared; by default where `arrays.choose` says.

    Raises:
        UsageError, MissingDevice, MissingDependency: as `arrays.choose`.
    """
    place = place or arrays.choose("comparing", len(hashes) ** 2 // 2)
    steps = place.bring(np.rint(hashes * _STEPS).astype(np.float32))
    found: list[tuple[Indices, Indices, Floats]] = []
    starts = range(0, len(hashes), _ROWS)
    with progress.bar("compare hashes", len(hashes), "image") as advance:
        for top in starts:
            here = []
            for left in range(top, len(hashes), _ROWS):
                row, column, product = _close(steps, top, left, place)
                here.append(_best(row, column + left, product))
            row, column, product = _best(*(np.concatenate(parts) for parts in zip(*here, strict=True)))
            found.append((row + top, column, product))
            advance(min(_ROWS, len(hashes) - top))
    if not found:
        return np.empty((0, 2), np.intp)
    row, column, _ = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.stack([row, column], axis=1)


def _close(steps: Any, top: int, left: int, place: arrays.Place) -> tuple[Indices, Indices, Floats]:
    """Row and column in a block of all pairs, and product, of those that are close; they alone leave the GPU."""
    xp = place.xp
    rows, columns = (steps[first : min(first + _ROWS, steps.shape[0]), :] for first in (top, left))
    products = rows @ xp.matrix_transpose(columns)
    if left == top:
        products = xp.triu(products, k=1)  # each pair once, and no image with itself
    products = xp.reshape(products, (-1,))
    places = xp.nonzero(products >= PROPOSED * _STEPS**2)[0]
    row, column = np.divmod(place.fetch(places), columns.shape[0])
    return row, column, place.fetch(xp.take(products, places))


def _best(row: Indices, column: Indices, product: Floats) -> tuple[Indices, Indices, Floats]:
    """Of each row, the `_PROPOSALS` pairs with the highest product; of equal ones the first."""
    order = np.lexsort((-product, row))
    row = row[order]
    starts = np.searchsorted(row, row)  # of each row's stretch
    kept = np.arange(len(row)) - starts < _PROPOSALS
    return row[kept], column[order][kept], product[order][kept]


def confirm(pool: Pool, pairs: Indices) -> Floats:
    """How alike the details of each pair are, `(P,)`, -1 to 1."""
    scores = np.zeros(len(pairs), np.float32)
    with progress.bar("compare pixels", len(pairs), "pair") as advance:
        for start in range(0, len(pairs), _PAIRS):
            some = pairs[start : start + _PAIRS]
            scores[start : start + _PAIRS] = _alike(
                _details(pool.images(some[:, 0])), _details(pool.images(some[:, 1]))
            )
            advance(len(some))
    return scores


def by_chance(pool: Pool, chosen: Indices) -> float:
    """The correlation that hardly one pair of different images reaches: low for photos, high for written digits.

    Of pairs of one class, drawn at random, Fisher's transforms of the correlations are taken for normal, and what one
    of all pairs exceeds is read from that; by quantiles, which a few copies among them do not move.
    """
    number = len(chosen) * (len(chosen) - 1) // 2
    if not number:
        return 1.0
    generator = np.random.default_rng(0)
    row = chosen[np.argsort(pool.labels[chosen], kind="stable")]  # class after class
    sizes = np.bincount(pool.labels[row])[pool.labels[row]]
    starts = np.searchsorted(pool.labels[row], pool.labels[row])
    first = generator.integers(len(row), size=_RANDOM_PAIRS)
    first = first[sizes[first] > 1]
    if not len(first):
        return 0.0
    steps = generator.integers(1, sizes[first])
    second = starts[first] + (first - starts[first] + steps) % sizes[first]
    seen = np.arctanh(np.clip(confirm(pool, np.stack([row[first], row[second]], axis=1)), -0.999, 0.999))
    middle, high = np.quantile(seen, [0.5, stats.norm.cdf(1)])
    return float(np.tanh(middle + (high - middle) * stats.norm.isf(1 / (number + 1))))


def _details(images: Images) -> Floats:
    """What lies between a fine and a coarse blur: `(n, s, s, 3)`."""
    pixels = shrunk(images, _DETAIL_SIDE).astype(np.float32)
    fine, coarse = (ndimage.gaussian_filter(pixels, (0, width, width, 0)) for width in (_FINE, _COARSE))
    details: Floats = fine - coarse
    return details


def _alike(first: Floats, second: Floats) -> Floats:
    """The highest correlation over all shifts by up to a pixel: `(n,)`."""
    side = first.shape[1]
    inner = first[:, 1:-1, 1:-1]
    energy = np.einsum("nyxc,nyxc->n", inner, inner)
    best = np.full(len(first), -1, np.float32)
    for down, right in itertools.product(range(3), repeat=2):
        other = second[:, down : side - 2 + down, right : side - 2 + right]
        product = np.einsum("nyxc,nyxc->n", inner, other)
        lengths = np.sqrt(energy * np.einsum("nyxc,nyxc->n", other, other))
        best = np.maximum(best, product / np.maximum(lengths, 1e-3))
    return best
