"""Groups of rows: counted and summed the same by either library."""

from typing import Any

import numpy as np
import pytest

import places
from peregrine import catalog, metrics, tables

LIBRARIES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    if request.param == "cuda":
        places.need_gpu("cudf")
    return catalog.load("tables", request.param)


def test_rows_are_counted_and_values_summed_by_each_combination_of_keys(library: Any) -> None:
    found = tables.group_sums(
        {"label": np.array([2, 0, 2, 0, 2]), "said": np.array([1, 1, 0, 1, 1])},
        {"right": np.array([True, False, True, True, True]), "steps": np.array([2**60, 1, 5, 2, 2**60 - 1])},
        library,
    )
    assert {name: column.tolist() for name, column in found.items()} == {
        "label": [0, 2, 2],
        "said": [1, 0, 1],
        "right": [1, 1, 2],
        "steps": [3, 5, 2**61 - 1],  # a float would not hold it
        "rows": [2, 1, 2],
    }
    assert all(column.dtype == np.int64 for column in found.values())


def test_no_rows(library: Any) -> None:
    found = tables.group_sums({"key": np.empty(0, np.int64)}, {"value": np.empty(0, np.bool_)}, library)
    assert {name: column.tolist() for name, column in found.items()} == {"key": [], "value": [], "rows": []}


def test_many_rows_as_by_hand(library: Any) -> None:
    generator = np.random.default_rng(0)
    keys, values = generator.integers(0, 50, 10_000), generator.integers(-9, 10, 10_000)
    found = tables.group_sums({"key": keys}, {"value": values}, library)
    assert found["key"].tolist() == list(range(50))
    np.testing.assert_array_equal(found["rows"], np.bincount(keys))
    np.testing.assert_array_equal(found["value"], [values[keys == key].sum() for key in range(50)])


def test_an_evaluation_is_the_same_with_a_gpu(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    probabilities = metrics.softmax(3 * generator.normal(size=(500, 4))).astype(np.float32)
    labels, names = generator.integers(0, 4, 500), ("a", "b", "c", "d")
    expected = metrics.evaluate(probabilities, labels, names)
    monkeypatch.setattr("peregrine.device.serving", lambda kind, task, amount: library)
    assert metrics.evaluate(probabilities, labels, names) == expected
