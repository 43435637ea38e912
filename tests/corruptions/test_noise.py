"""Noise has the moments that its definition says."""

import numpy as np
import pytest

from peregrine.corruptions import corrupt
from peregrine.corruptions.published import CIFAR

SEVERITIES = range(1, 6)


def grey(level: int) -> np.ndarray:
    return np.full((50, 32, 32, 3), level, np.uint8)


def strength(name: str, severity: int) -> float:
    return CIFAR.strengths[name][severity - 1][0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_deviation(severity: int) -> None:
    found = corrupt(grey(128), "gaussian_noise", severity).astype(float)
    assert found.mean() == pytest.approx(128 - 0.5, abs=0.2)  # cut down to whole levels
    assert found.std() / 255 == pytest.approx(strength("gaussian_noise", severity), rel=0.01)


@pytest.mark.parametrize("level", [64, 128, 192])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_the_variance_of_counted_light(severity: int, level: int) -> None:
    """A Poisson count has its mean as variance; that of white is the strength."""
    found = corrupt(grey(level), "shot_noise", severity) / 255
    light, photons = level / 255, strength("shot_noise", severity)
    clipped = light + 3 * np.sqrt(light / photons) > 1
    assert found.mean() == pytest.approx(light - 0.5 / 255, abs=0.02 if clipped else 0.001)
    if not clipped:
        assert found.var() == pytest.approx(light / photons, rel=0.05)  # counts fall on whole levels


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_is_half_salt_half_pepper_in_each_channel(severity: int) -> None:
    found = corrupt(grey(100), "impulse_noise", severity)
    half = strength("impulse_noise", severity) / 2
    assert set(np.unique(found)) == {0, 100, 255}
    assert (found == 0).mean() == pytest.approx(half, rel=0.1)
    assert (found == 255).mean() == pytest.approx(half, rel=0.1)
    together = (found != 100).all(3).mean()
    assert together < 0.1 * half, "channels are drawn on their own"
