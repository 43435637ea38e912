"""Copies of images: exact and near, across splits, with different labels, or merely twice."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Collection

import numpy as np

from peregrine import progress
from peregrine.data.checks import near
from peregrine.data.checks.base import Case, Finding, count, finding, have
from peregrine.data.checks.pool import Pool

EXACT = ("leakage", "conflict", "duplicate")
NEAR = ("near-leakage", "near-conflict", "near-duplicate")

_LOOKED_AT = 50  # of each of two groups of equal images; they are all alike


def exact(pool: Pool) -> list[list[int]]:
    """Groups of two or more images with the same pixels, each in order."""
    places: dict[bytes, list[int]] = defaultdict(list)
    with progress.bar("look for copies", len(pool), "image") as advance:
        for place, images in pool.blocks():
            for index, image in zip(range(place.start, place.stop), images, strict=True):
                places[hashlib.sha256(image.tobytes()).digest()].append(index)
            advance(len(images))
    return [group for group in places.values() if len(group) > 1]


def find(pool: Pool, wanted: Collection[str]) -> list[Finding]:
    """Findings about copies; near ones are looked for only if one of their rules is wanted."""
    groups = exact(pool)
    findings = _exact_findings(pool, groups)
    if set(NEAR) & set(wanted):
        again = [index for group in groups for index in group[1:]]
        firsts = np.setdiff1d(np.arange(len(pool)), again)
        findings += _near_findings(pool, groups, near.find(pool, firsts))
    return findings


def _exact_findings(pool: Pool, groups: list[list[int]]) -> list[Finding]:
    across = [group for group in groups if len(_splits(pool, group)) > 1]
    conflicting = [group for group in groups if len(_labels(pool, group)) > 1]
    within = [group for group in groups if len(_splits(pool, group)) < len(group)]
    return [
        *_about("leakage", pool, across, "in another split, which makes scores too good; keep each in one"),
        *_about("conflict", pool, conflicting, "with different labels; correct or remove them"),
        *_about("duplicate", pool, within, "in the same split; keep one of each"),
    ]


def _about(rule: str, pool: Pool, groups: list[list[int]], what: str) -> list[Finding]:
    cases = [Case(pool.members(group), score=1.0) for group in groups]
    return finding(rule, f"{count(len(groups))} {have(len(groups))} copies {what}", cases)


def _near_findings(pool: Pool, groups: list[list[int]], pairs: near.Pairs) -> list[Finding]:
    group_of = {group[0]: group[:_LOOKED_AT] for group in groups}
    cases: dict[str, list[Case]] = {rule: [] for rule in NEAR}
    for (first, second), score in zip(pairs.indices.tolist(), pairs.scores.tolist(), strict=True):
        choices = list(itertools.product(group_of.get(first, [first]), group_of.get(second, [second])))
        across = next((pair for pair in choices if len(_splits(pool, pair)) > 1), None)
        conflicting = next((pair for pair in choices if len(_labels(pool, pair)) > 1), None)
        rule = "near-leakage" if across else "near-duplicate"
        said = Case(pool.members(across or choices[0]), f"{score:.1%} alike", round(score, 4))
        cases[rule].append(said)
        if conflicting:
            cases["near-conflict"].append(Case(pool.members(conflicting), said.detail, said.score))
    leaks, doubts, twice = (len(cases[rule]) for rule in NEAR)
    return [
        *finding(
            "near-leakage",
            f"{count(leaks, 'pair')} of nearly the same picture in two splits, which makes scores too good; "
            "keep each in one",
            cases["near-leakage"],
        ),
        *finding(
            "near-conflict",
            f"{count(doubts, 'pair')} of nearly the same picture with different labels; look which is right",
            cases["near-conflict"],
        ),
        *finding(
            "near-duplicate",
            f"{count(twice, 'pair')} of nearly the same picture in one split; keep one of each",
            cases["near-duplicate"],
        ),
    ]


def _splits(pool: Pool, group: Collection[int]) -> set[int]:
    return set(pool.split_numbers[list(group)].tolist())


def _labels(pool: Pool, group: Collection[int]) -> set[int]:
    return set(pool.labels[list(group)].tolist())
