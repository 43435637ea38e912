"""Winograd's convolution of 3×3 by matrix products, for training on CPUs.

A tile of m×m output pixels takes (m + 2)² products of channels instead of 9 m². Three matrix products do all of it: one
takes the pixels of many images to the tiles' places, one multiplies at each of the (m + 2)² places, one takes them back
to pixels. The backward pass has the same matrices, transposed. In bf16 the results are off by 2% of their size.

Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. The matrices are
Toom and Cook's: polynomials by their values at a few points.
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Of each size of tile; the last point is infinity. Chosen for small errors in bf16: with 2 and -2 instead, those of 4
# are 3.9% instead of 2.4%.
_POINTS = {2: (0, 1, -1), 3: (0, 1, -1, 2), 4: (0, 1, -1, 0.5, -2)}
# The tile by the map's longest side, from so many images times channels in and out on, in bf16. On two cores of a Zen
# 5 (256 channels, batch 500), forward and backward passes take 57 ms instead of 99 at 7×7, 40 instead of 65 at 6×6.
_TILES = {4: 4, 5: 3, 6: 3, 7: 4}
_FEWEST = 16_000_000
_IMAGES = 250  # at once: what lies between the products should stay in the cache


def convolve(images: Tensor, weight: Tensor, tile: int) -> Tensor:
    """Like `torch.nn.functional.conv2d` with a padding of 1.

    Args:
        images: float `(N, I, H, W)`.
        weight: float `(O, I, 3, 3)`.
        tile: side of the tiles in pixels, 2 to 4.
    """
    return _Winograd.apply(images, weight, tile)  # type: ignore[no-any-return, no-untyped-call]


def tile_that_pays(images: Tensor, weight: Tensor) -> int:
    """The tile with which this is faster than other ways; 0 where none is."""
    enough = images.dtype == torch.bfloat16 and len(images) * weight.shape[0] * weight.shape[1] >= _FEWEST
    return _TILES.get(max(images.shape[2:]), 0) if enough else 0


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, tile: int) -> Tensor:
        pixels = images.permute(0, 2, 3, 1)
        count, height, width, inside = pixels.shape
        inward, outward, of_weights = _matrices(height, width, tile, images.dtype)
        places, out = len(of_weights), len(weight)
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
        taps = (of_weights.to(taps.dtype) @ taps).to(images.dtype).view(places, inside, out)
        outputs = pixels.new_empty(count, height * width, out)
        for part in _parts(count):
            values = _apply(inward, pixels[part]).view(places, -1, inside)
            outputs[part] = _unapply(outward, torch.bmm(values, taps), outputs[part].shape)
        ctx.save_for_backward(pixels, taps)
        ctx.matrices, ctx.weight_type = (inward, outward, of_weights), weight.dtype
        return outputs.view(count, height, width, out).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        pixels, taps = ctx.saved_tensors
        inward, outward, of_weights = ctx.matrices
        places, inside, out = taps.shape
        slopes = gradients[0].permute(0, 2, 3, 1)
        of_pixels = torch.empty_like(pixels.flatten(1, 2))
        of_taps = torch.zeros_like(taps, dtype=ctx.weight_type)
        for part in _parts(len(pixels)):
            values = _apply(inward, pixels[part]).view(places, -1, inside)
            slope = _apply(outward.T, slopes[part]).view(places, -1, out)
            of_taps += torch.bmm(values.transpose(1, 2), slope)
            of_pixels[part] = _unapply(inward.T, torch.bmm(slope, taps.transpose(1, 2)), of_pixels[part].shape)
        of_weight = (of_weights.to(of_taps.dtype).T @ of_taps.view(places, -1)).view(3, 3, inside, out)
        return of_pixels.view(pixels.shape).permute(0, 3, 1, 2), of_weight.permute(3, 2, 0, 1), None


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _IMAGES) for start in range(0, count, _IMAGES)]


def _apply(matrix: Tensor, pixels: Tensor) -> Tensor:
    """A matrix times the pixels of many images at once: they come first for that, then images and channels."""
    return matrix @ pixels.flatten(1, -2).transpose(0, 1).reshape(matrix.shape[1], -1)


def _unapply(matrix: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A matrix times values at places, back to images, pixels and channels."""
    count, pixels, channels = shape
    return (matrix @ values.reshape(matrix.shape[1], -1)).view(pixels, count, channels).transpose(0, 1)


@functools.cache
def _matrices(height: int, width: int, tile: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What takes pixels to places `(K·T, H·W)`, places to pixels `(H·W, K·T)`, and weights to places `(K, 9)`."""
    (rows_in, rows_out), (columns_in, columns_out) = _line(height, tile), _line(width, tile)
    inward = np.einsum("aip,bjq->abijpq", rows_in, columns_in).reshape(-1, height * width)
    outward = np.einsum("pai,qbj->pqabij", rows_out, columns_out).reshape(height * width, -1)
    of_weights = np.kron(*[_transforms(tile)[0]] * 2)
    return torch.from_numpy(inward).to(dtype), torch.from_numpy(outward).to(dtype), torch.from_numpy(of_weights)


def _line(side: int, tile: int) -> tuple[Any, Any]:
    """For a row of pixels, padded by one on each side: to places `(n, T, side)`, and back `(side, n, T)`."""
    _, to_places, from_places = _transforms(tile)
    tiles, size = -(-side // tile), tile + 2
    inward, outward = np.zeros((size, tiles, side)), np.zeros((side, size, tiles))
    for number in range(tiles):
        for place in range(size):
            pixel = number * tile + place - 1
            if 0 <= pixel < side:
                inward[:, number, pixel] = to_places[:, place]
        for place in range(min(tile, side - number * tile)):
            outward[number * tile + place, :, number] = from_places[place]
    return inward, outward


@functools.cache
def _transforms(tile: int) -> tuple[Any, Any, Any]:
    """Of three weights `(n, 3)`, of n pixels to places `(n, n)`, and of places to a tile `(tile, n)`; n = tile + 2."""
    size = tile + 2
    values = np.vstack([np.vander(_POINTS[tile], size, increasing=True), np.eye(size)[-1]])
    ends = {length: np.vstack([values[:-1, :length], np.eye(length)[-1]]) for length in (3, tile)}
    to_places = np.linalg.inv(values).T
    scale = np.abs(to_places).sum(1, keepdims=True)  # so that no place needs a larger range than the others
    return ends[3] * scale, to_places / scale, ends[tile].T
