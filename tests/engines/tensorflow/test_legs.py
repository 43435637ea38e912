"""Legs cover a run without gaps, and change where sizes and phases do, at the step where PyTorch's engine does."""

import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine.engines.tensorflow.legs import legs
from peregrine.engines.tensorflow.models.base import ALWAYS, Phase

pytestmark = pytest.mark.tensorflow
FIRST, REST = Phase(until=0.1), Phase(resting=("whitening",))


def recipe(*growth: tuple[float, int]):  # type: ignore[no-untyped-def]
    return small_runs.recipe("tensorflow", {"input.size": 32, "input.growth": [list(stage) for stage in growth]})


def test_one_leg_where_nothing_changes() -> None:
    (leg,) = legs(recipe(), ALWAYS, 17)
    assert (leg.stop, leg.side, leg.phase) == (17, 32, ALWAYS[0])


def test_sizes_and_phases_change_on_their_own() -> None:
    found = legs(recipe((0.4, 20), (0.7, 24)), (FIRST, REST), 360)
    assert [(leg.stop, leg.side, leg.phase) for leg in found] == [
        (36, 20, FIRST),
        (144, 20, REST),
        (252, 24, REST),
        (360, 32, REST),
    ]


@pytest.mark.parametrize("total", [1, 2, 3, 7, 36, 361])
def test_every_step_is_what_pytorch_would_make_of_it(total: int) -> None:
    found = legs(recipe((0.7, 24)), (FIRST, REST), total)
    assert found[-1].stop == total
    for step in range(total):
        leg = next(leg for leg in found if step < leg.stop)
        assert leg.side == (24 if step < 0.7 * total else 32)
        assert leg.phase == (FIRST if step / total < 0.1 else REST)


def test_a_phase_of_no_length_is_left_out() -> None:
    assert [leg.phase for leg in legs(recipe(), (Phase(until=0.0), REST), 5)] == [REST]
