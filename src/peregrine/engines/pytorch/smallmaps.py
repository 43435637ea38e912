"""3×3 convolutions of small maps on a CPU, without the multiplications by padding.

On a map of 2×2 pixels, padded to 4×4, 20 of the 36 products that a convolution of 3×3 takes are with zeros; on one
pixel 8 of 9. Here each output pixel is one matrix product of the inputs that it sees with the weights that they meet,
and so are the gradients. On two cores of a Zen 5 (bf16, 256 channels, batch 500), forward and backward passes take
4.8 ms instead of 18 at 2×2, 14 instead of 26 at 3×3; from 5×5 on, oneDNN's convolution is as fast. See `winograd` for
maps a little larger.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# From how many images times channels in and out on this is faster than oneDNN, by the map's longest side in pixels:
# fewer are done before the calls are made, and in float32 oneDNN keeps the lead from 3×3 on. Measured as above.
_FEWEST_LOW = {1: 1_000_000, 2: 2_000_000, 3: 20_000_000, 4: 30_000_000}  # bf16 and fp16
_FEWEST_FP32 = {1: 8_000_000, 2: 8_000_000}


def convolve(images: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Like `torch.nn.functional.conv2d` with a padding of 1.

    Args:
        images: float `(N, I, H, W)`.
        weight: float `(O, I, 3, 3)`.
    """
    return _Products.apply(images, weight, stride)  # type: ignore[no-any-return, no-untyped-call]


def pays(images: Tensor, weight: Tensor) -> bool:
    """Whether that is faster than oneDNN."""
    fewest = _FEWEST_LOW if images.dtype in (torch.bfloat16, torch.float16) else _FEWEST_FP32
    side = max(images.shape[2:])
    return side in fewest and len(images) * weight.shape[0] * weight.shape[1] >= fewest[side]


class _Products(torch.autograd.Function):
    """One matrix product for each output pixel. Pixels come last but channels, so that most views need no copy."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        inputs, taps = images.permute(0, 2, 3, 1), weight.to(images.dtype).permute(0, 2, 3, 1)
        count, height, width, _ = inputs.shape
        outputs = inputs.new_empty(count, -(-height // stride), -(-width // stride), len(taps))
        for pixel, seen, met in _pixels(height, width, stride):
            outputs[:, *pixel] = _rows(inputs[:, *seen]) @ _rows(taps[:, *met]).T
        ctx.save_for_backward(inputs, taps)
        ctx.stride, ctx.weight_type = stride, weight.dtype
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, taps = ctx.saved_tensors
        slopes = gradients[0].permute(0, 2, 3, 1)
        of_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        of_taps = torch.zeros_like(taps, dtype=ctx.weight_type) if ctx.needs_input_grad[1] else None
        for pixel, seen, met in _pixels(inputs.shape[1], inputs.shape[2], ctx.stride):
            slope = slopes[:, *pixel]
            if of_inputs is not None:
                part = of_inputs[:, *seen]
                part += (slope @ _rows(taps[:, *met])).view(part.shape)
            if of_taps is not None:
                part = of_taps[:, *met]
                part += (slope.T @ _rows(inputs[:, *seen])).view(part.shape)
        return _as_images(of_inputs), _as_images(of_taps), None


def _pixels(height: int, width: int, stride: int) -> Iterator[tuple[tuple[int, int], list[slice], list[slice]]]:
    """Each output pixel, the inputs that it sees, and the weights that they meet; all as rows and columns."""
    for row, seen_rows, met_rows in _places(height, stride):
        for column, seen_columns, met_columns in _places(width, stride):
            yield (row, column), [seen_rows, seen_columns], [met_rows, met_columns]


def _places(length: int, stride: int) -> Iterator[tuple[int, slice, slice]]:
    for place, middle in enumerate(range(0, length, stride)):
        first, end = max(middle - 1, 0), min(middle + 2, length)
        yield place, slice(first, end), slice(first - middle + 1, end - middle + 1)


def _rows(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def _as_images(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.permute(0, 3, 1, 2)
