"""Noise: of a bad sensor, of few photons, of broken bits."""

import numpy as np

from peregrine.corruptions.levels import to_levels, to_values
from peregrine.dataset import Images


def gaussian_noise(images: Images, random: np.random.Generator, deviation: float) -> Images:
    """Add normal noise to every channel.

    Args:
        deviation: standard deviation, with white as 1.
    """
    return to_levels(to_values(images) + np.float32(deviation) * random.standard_normal(images.shape, np.float32))


def shot_noise(images: Images, random: np.random.Generator, photons: float) -> Images:
    """Replace every channel by a Poisson count of light.

    Args:
        photons: expected count for white.
    """
    return to_levels(random.poisson(to_values(images) * photons) / photons)


def impulse_noise(images: Images, random: np.random.Generator, share: float) -> Images:
    """Salt and pepper: set a share of all channels to black or white, half of it each.

    Source: scikit-image's `random_noise(mode="s&p")`, which draws for every channel on its own.
    """
    chance = random.random(images.shape, np.float32)
    noisy = images.copy()
    noisy[chance < share / 2] = 0
    noisy[chance >= 1 - share / 2] = 255
    return noisy
