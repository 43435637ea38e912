"""How many near copies `data check` finds in real CIFAR-10, and how many of its findings are wrong.

    PEREGRINE_DATA=… python benchmarks/near_duplicates.py [--pairs 200] [--seed 0] [--picture FILE] [--sample FILE]

200 test images taken at random are planted into the training split, changed in one of three ways in turn: recompressed
as JPEG of quality 50 to 90; shifted by a pixel, in one of eight directions, with the edge repeated; brightened, by a
gain of 1.1 to 1.4 and an offset of 0 to 30 of 255. What is drawn from these ranges is random, by the seed.

Recall: planted pairs that are found. Precision: of the pairs found with a planted image in them, those that are right:
the planted image with its source, or with an image that is itself a near copy of the source (CIFAR-10 has such; they
are found before anything is planted). For the pairs of CIFAR-10 itself there is no such truth: they are counted, and
the closest of them drawn by --picture, or some taken at random by --sample, to be looked at.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from peregrine import host
from peregrine.data.checks import copies, near
from peregrine.data.checks.pool import Pool
from peregrine.data.sources import load_dataset
from peregrine.dataset import Dataset, Images, Splits

KINDS = ("recompressed", "shifted", "brightened")
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
DRAWN, SAMPLED = 20, 100


def changed(image: Images, kind: str, generator: np.random.Generator) -> Images:
    if kind == "recompressed":
        memory = io.BytesIO()
        Image.fromarray(image).save(memory, "JPEG", quality=int(generator.integers(50, 91)))
        return np.asarray(Image.open(memory))
    if kind == "shifted":
        down, right = SHIFTS[generator.integers(len(SHIFTS))]
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
        return padded[1 + down : 33 + down, 1 + right : 33 + right]
    gain, offset = generator.uniform(1.1, 1.4), generator.uniform(0, 30)
    return np.clip(np.rint(image * gain + offset), 0, 255).astype(np.uint8)


def planted(splits: Splits, pairs: int, seed: int) -> tuple[Splits, list[int]]:
    """The data with changed copies of test images at the end of train, and which test images they are of."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(splits.test))[:pairs].tolist()
    copied = [changed(splits.test.images[test], KINDS[number % 3], generator) for number, test in enumerate(chosen)]
    train = splits.train
    more = Dataset(
        np.concatenate([train.images, np.stack(copied)]),
        np.concatenate([train.labels, splits.test.labels[chosen]]),
        np.concatenate([train.ids, [f"planted/{number}" for number in range(pairs)]]),
        train.class_names,
    )
    return Splits(more, None, splits.test), chosen


def near_copies(splits: Splits) -> tuple[list[tuple[int, int, float]], float]:
    """All pairs of copies, exact ones too, as `data check` finds them: places in the pool and score; and seconds."""
    start = time.perf_counter()
    pool = Pool(splits)
    groups = copies.exact(pool)
    again = [index for group in groups for index in group[1:]]
    pairs = near.find(pool, np.setdiff1d(np.arange(len(pool)), again))
    seconds = time.perf_counter() - start
    exact = [(group[0], other, 1.0) for group in groups for other in group[1:]]
    found = [(int(one), int(two), float(score)) for (one, two), score in zip(pairs.indices, pairs.scores, strict=True)]
    return exact + found, seconds


def draw(splits: Splits, pairs: list[tuple[int, int, float]], title: str, path: Path) -> None:
    """Pairs side by side, four in a row."""
    from matplotlib.figure import Figure

    pool = Pool(splits)
    rows = -(-len(pairs) // 4)
    figure = Figure(figsize=(12, 0.4 + 1.85 * rows), dpi=80)
    for number, (one, two, score) in enumerate(pairs):
        axes = figure.add_subplot(rows, 4, number + 1)
        gap = np.full((32, 2, 3), 255, np.uint8)
        axes.imshow(np.concatenate([pool.images([one])[0], gap, pool.images([two])[0]], axis=1))
        axes.set_axis_off()
        first, second = pool.member(one), pool.member(two)
        axes.set_title(
            f"{first.id} {first.class_name}\n{second.id} {second.class_name} · {score:.4f}", fontsize=8, loc="left"
        )
    figure.suptitle(title, x=0.01, y=1 - 0.1 / figure.get_figheight(), va="top", ha="left")
    figure.tight_layout(h_pad=1.2, rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200, help="how many are planted (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="where to draw the 20 closest pairs of CIFAR-10 itself")
    parser.add_argument("--sample", type=Path, help="where to draw 100 of its pairs, taken at random")
    arguments = parser.parse_args()

    splits = load_dataset("cifar10")
    real, seconds = near_copies(splits)
    members, tests = len(splits.train), len(splits.test)
    print(f"{time.strftime('%Y-%m-%d')}, {host.threads()} threads of {host.processor()}")
    across = [pair for pair in real if pair[0] < members <= pair[1]]
    contaminated = len({two for _, two, _ in across})
    print(
        f"CIFAR-10 itself: {len(real):,} pairs in {seconds:.1f} s, {sum(score == 1.0 for *_, score in real):,} of them "
        f"exact; {len(across):,} across splits, of {contaminated:,} of {tests:,} test images"
    )
    close = sorted((pair for pair in real if pair[2] < 1.0), key=lambda pair: -pair[2])
    if arguments.picture:
        draw(splits, close[:DRAWN], f"CIFAR-10: the {DRAWN} closest pairs that are not equal", arguments.picture)
    if arguments.sample:
        some = np.sort(np.random.default_rng(arguments.seed).permutation(len(close))[:SAMPLED])
        draw(splits, [close[place] for place in some], f"{SAMPLED} of {len(close):,} pairs at random", arguments.sample)

    mixed, chosen = planted(splits, arguments.pairs, arguments.seed)
    found, seconds = near_copies(mixed)
    shift = arguments.pairs  # test comes after train in a pool
    of = {members + number: members + shift + test for number, test in enumerate(chosen)}
    known: dict[int, set[int]] = {}
    for one, two, _ in real:
        one, two = (place + shift if place >= members else place for place in (one, two))
        known.setdefault(one, set()).add(two)
        known.setdefault(two, set()).add(one)
    with_planted = [(one, two, score) for one, two, score in found if one in of or two in of]
    hits, right = set(), 0
    for one, two, _ in with_planted:
        plant, other = (one, two) if one in of else (two, one)
        hits |= {plant} if other == of[plant] else set()
        right += other == of[plant] or other in known.get(of[plant], set())
    print(
        f"{len(of)} planted: {len(hits)} found ({len(hits) / len(of):.1%}); {len(with_planted)} pairs with a planted "
        f"image, {right} of them right ({right / max(len(with_planted), 1):.1%}); {seconds:.1f} s"
    )
    for number, kind in enumerate(KINDS):
        places = [place for place in of if (place - members) % 3 == number]
        print(f"  {kind:13}{len(hits & set(places)):4} of {len(places)}")


if __name__ == "__main__":
    main()
