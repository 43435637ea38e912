"""The loss of a batch of training images."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine.engines.pytorch.pipeline import Batch


def batch_loss(logits: Tensor, batch: Batch, class_weights: Tensor, label_smoothing: float) -> Tensor:
    """Mean cross-entropy over a batch, each image weighted by its class.

    Of a mixed image, target and weight are those of both classes by their shares.

    Args:
        logits: `(B, C)` of any floating type; the loss is computed in float32.
        class_weights: float32 `(C,)`.

    Returns:
        float32, a scalar.
    """
    logits = logits.float()
    losses = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    weights = class_weights[batch.labels]
    if batch.mixed is not None:  # cross-entropy is linear in the target
        others, shares = batch.mixed
        theirs = F.cross_entropy(logits, others, label_smoothing=label_smoothing, reduction="none")
        losses = losses + shares * (theirs - losses)
        weights = weights + shares * (class_weights[others] - weights)
    return (losses * weights).mean()
