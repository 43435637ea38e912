"""Near copies: the three changes of the benchmark are found, on pictures like photos; different pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image

import making
from peregrine.data import digits
from peregrine.data.base import Options
from peregrine.data.checks import copies, near
from peregrine.data.checks.base import Finding
from peregrine.data.checks.pool import Pool
from peregrine.dataset import Images, Labels


def recompressed(image: Images) -> Images:
    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "JPEG", quality=60)
    return np.asarray(Image.open(memory))


def shifted(image: Images) -> Images:
    return np.pad(image, ((1, 0), (0, 1), (0, 0)), "edge")[:-1, 1:]


def brightened(image: Images) -> Images:
    return np.clip(image * 1.2 + 10, 0, 255).astype(np.uint8)


CHANGES = [recompressed, shifted, brightened]


def look(train: Images, test: Images, labels: Labels | None = None) -> dict[str, Finding]:
    found = copies.find(Pool(making.splits(train, test, labels)), [*copies.EXACT, *copies.NEAR])
    return {finding.rule.id: finding for finding in found}


@pytest.mark.parametrize("size", [16, 32, 50, 100])
def test_changed_copies_are_found_and_nothing_else(size: int) -> None:
    train = making.scenes(300, size)
    test = making.scenes(60, size, seed=1)
    test[:30] = [CHANGES[index % 3](train[7 * index]) for index in range(30)]
    found = look(train, test)
    assert list(found) == ["near-leakage"] or set(found) == {"near-leakage", "near-conflict"}
    pairs = {tuple(member.id for member in case.members) for case in found["near-leakage"].cases}
    assert pairs == {(f"train/{7 * index}", f"test/{index}") for index in range(30)}
    scores = [case.score for case in found["near-leakage"].cases]
    assert scores == sorted(scores, reverse=True)


def test_in_one_split_and_with_another_label() -> None:
    train = making.scenes(40)
    train[31] = shifted(train[10])
    labels = np.zeros(60, np.int64)
    labels[31] = 1
    found = look(train, making.scenes(20, seed=1), labels)
    assert set(found) == {"near-duplicate", "near-conflict"}
    assert [member.id for member in found["near-conflict"].cases[0].members] == ["train/10", "train/31"]
    assert [member.class_name for member in found["near-conflict"].cases[0].members] == ["class 0", "class 1"]


def test_near_copies_of_exact_copies_are_told_once() -> None:
    """And across splits, if one of the exact copies is there."""
    train, test = making.scenes(40), making.scenes(20, seed=1)
    train[20] = train[10]
    test[3] = train[10]
    train[30] = brightened(train[10])
    found = look(train, test, np.zeros(60, np.int64))
    assert {rule: len(finding.cases) for rule, finding in found.items()} == {
        "leakage": 1,
        "duplicate": 1,
        "near-leakage": 1,
    }
    assert {member.id for member in found["near-leakage"].cases[0].members} == {"train/30", "test/3"}


def test_images_without_contrast_are_no_copies_of_each_other() -> None:
    noise = np.random.default_rng(0).integers(127, 130, (30, 32, 32, 3)).astype(np.uint8)
    assert look(noise[:20], noise[20:]) == {}


def test_data_of_like_images_need_more_likeness() -> None:
    """Of written digits, 3,840 pairs reach what no different photos reach."""
    pool = Pool(digits.load(Options(size=32)).splits)
    assert near.by_chance(pool, np.arange(len(pool))) > 0.95
    assert len(near.find(pool, np.arange(len(pool))).scores) < 10
    photos = Pool(making.splits(making.scenes(300), making.scenes(60, seed=1)))
    assert near.by_chance(photos, np.arange(360)) < 0.6


def test_many_alike_cost_a_bounded_number_of_proposals() -> None:
    hashes = np.ones((300, 4), np.float32) / 2
    assert len(near.propose(hashes)) <= 300 * 20
