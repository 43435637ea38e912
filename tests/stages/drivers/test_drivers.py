"""What every driver promises; LoadGen where its extra is installed."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from peregrine.stages.drivers.base import Driver
from small_runs import need

WAIT_S = 0.001
IMAGES = tiny.images(60)


@pytest.fixture(params=["plain", "loadgen"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    made: Driver = need("driver", request.param)(tmp_path / "logs")
    assert made.name == request.param
    return made


def predict(images: Any) -> Any:
    """A function of each image alone, which takes a millisecond per call."""
    end = time.perf_counter() + WAIT_S
    answers = np.stack([images[:, 0, 0, 0], images[:, 1, 2, 1]], axis=1).astype(np.float32) / 255
    while time.perf_counter() < end:
        pass
    return answers


def test_single_stream(driver: Driver) -> None:
    timed = driver.single_stream(predict, IMAGES, 0.1, 1e6)
    assert 10 <= len(timed.nanoseconds) <= 110
    assert np.quantile(timed.nanoseconds, 0.1) == pytest.approx(1e6, rel=0.1)  # undisturbed by who else computes here
    assert {len(places) for places in timed.places} == {1}
    for places, answers in zip(timed.places, timed.answers, strict=True):
        assert np.array_equal(answers, predict(IMAGES[places]))


def test_offline(driver: Driver) -> None:
    timed = driver.offline(predict, IMAGES, 16, 0.1, 1e6)
    assert len(timed.nanoseconds) >= 2
    assert {len(places) for places in timed.places} == {16}
    assert np.quantile(timed.nanoseconds, 0.1) == pytest.approx(1e6, rel=0.1)  # undisturbed by who else computes here
    for places, answers in zip(timed.places, timed.answers, strict=True):
        assert np.array_equal(answers, predict(IMAGES[places]))


def test_slow_ones_are_asked_a_few_times(driver: Driver) -> None:
    timed = driver.offline(predict, IMAGES, 16, 0.001, 1e9)
    assert 2 <= len(timed.nanoseconds) <= 5


def test_every_image_is_asked_about_and_its_answer_is_written_down(driver: Driver) -> None:
    answers, nanoseconds = driver.ask_all(predict, IMAGES, 16)
    assert np.array_equal(answers, predict(IMAGES))
    assert nanoseconds > 4 * WAIT_S * 1e9


def test_what_the_model_raises_comes_out(driver: Driver) -> None:
    calls = 0

    def breaks(images: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("out of luck")
        return predict(images)

    for ask in (
        lambda: driver.single_stream(breaks, IMAGES, 0.1, 1e6),
        lambda: driver.offline(breaks, IMAGES, 4, 0.1, 1e6),
        lambda: driver.ask_all(breaks, IMAGES, 4),
    ):
        calls = 0
        with pytest.raises(RuntimeError, match="out of luck"):
            ask()


def test_queries_at_random_times(tmp_path: Path) -> None:
    loadgen = need("driver", "loadgen")(tmp_path / "logs")
    found = loadgen.server(predict, IMAGES, 16, 300.0, 0.5)
    assert found["valid"] == (found["latency_ms_p99"] <= 15)
    assert found["latency_ms_p99"] > 1.0
    assert len(found["nanoseconds"]) == pytest.approx(150, abs=60)
    assert min(found["nanoseconds"]) >= WAIT_S * 1e9
    summary = (tmp_path / "logs" / "server_summary.txt").read_text()
    assert "Scenario : Server" in summary


def test_too_many_queries_are_not_valid(tmp_path: Path) -> None:
    loadgen = need("driver", "loadgen")(tmp_path / "logs")
    found = loadgen.server(predict, IMAGES, 1, 3000.0, 0.3)
    assert not found["valid"]
    assert found["latency_ms_p99"] > 15


def test_a_server_that_breaks_is_told(tmp_path: Path) -> None:
    loadgen = need("driver", "loadgen")(tmp_path / "logs")

    def breaks(images: Any) -> Any:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        loadgen.server(breaks, IMAGES, 16, 300.0, 0.1)
