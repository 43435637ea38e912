"""Corruptions of images, as cameras, weather and compression make them: what a model should bear.

The 15 of Hendrycks and Dietterich, each at 5 severities, written anew from the published definitions:

    noise      gaussian_noise  shot_noise  impulse_noise
    blur       defocus_blur  glass_blur  motion_blur  zoom_blur
    weather    snow  frost  fog  brightness
    digital    contrast  elastic_transform  pixelate  jpeg_compression

Each takes uint8 `(N, H, W, 3)`, H = W, and gives the same; `corrupt` looks one up by its name.

Source: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019, and the code that
made its data sets, github.com/hendrycks/robustness, ImageNet-C/create_c. What differs is said where it does.
"""

from peregrine.corruptions.applying import CORRUPTIONS, SEVERITIES, corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]
