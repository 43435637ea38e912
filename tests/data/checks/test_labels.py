"""Likely label errors: wrong labels planted into real data are at the head of the list."""

import numpy as np
import pytest

import making
from peregrine.data import digits
from peregrine.data.base import Options
from peregrine.data.checks.pool import Pool
from peregrine.dataset import Splits

pytest.importorskip("cleanlab", reason="needs the extra check")

from peregrine.data.checks import labels


@pytest.fixture(scope="module")
def spoilt() -> tuple[Splits, set[str]]:
    """Digits of which 30 in training have a wrong label, and the ids of those."""
    splits = digits.load(Options()).splits
    chosen = np.random.default_rng(0).permutation(len(splits.train))[:30]
    given = splits.train.labels.copy()
    given[chosen] = (given[chosen] + 1 + np.arange(30) % 9) % 10
    train = type(splits.train)(splits.train.images, given, splits.train.ids, splits.train.class_names)
    return Splits(train, None, splits.test), set(splits.train.ids[chosen].tolist())


def test_wrong_labels_come_first(spoilt: tuple[Splits, set[str]]) -> None:
    splits, wrong = spoilt
    pool = Pool(splits)
    (finding,) = labels.find(pool)
    listed = [case.members[0].id for case in finding.cases]
    assert len(wrong & set(listed[:25])) >= 24
    assert len(wrong & set(listed)) >= 25
    assert len(listed) <= 40
    case = finding.cases[0]
    assert case.suggestion in case.detail
    assert case.members[0].class_name in case.detail


def test_judgements_are_probabilities_of_unseen_images(spoilt: tuple[Splits, set[str]]) -> None:
    pool = Pool(spoilt[0])
    judged = labels.judge(pool)
    assert judged.probabilities.shape == (len(pool), 10)
    np.testing.assert_allclose(judged.probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(judged.probabilities, labels.judge(pool).probabilities)
    assert 0.93 < (judged.probabilities.argmax(1) == pool.labels).mean() < 0.985
    assert judged.wrong.min() >= 0
    assert 20 < judged.wrong.sum() < 45  # 30 are


def test_where_nothing_can_be_learnt_nothing_is_said() -> None:
    noise = making.images(400, 16)
    assert labels.find(Pool(making.splits(noise[:300], noise[300:]))) == []


def test_small_classes_are_not_judged() -> None:
    splits = digits.load(Options()).splits
    few = splits.train.subset(np.arange(60))
    assert not labels.enough(Pool(Splits(few, None, few)))
