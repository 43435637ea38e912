"""What a model in training is worth on images that it does not train on."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from peregrine.dataset import Labels, at_once
from peregrine.engines.pytorch.graph import Classifier
from peregrine.engines.pytorch.pipeline import Source

JUDGED_BATCH = 500  # images at once, of
JUDGED_SIDE = 32  # pixels; of larger ones fewer, for the memory that their activations take


def judge(classifier: Classifier, data: Source, size: int, between: Callable[[], None]) -> tuple[float, float, Labels]:
    """Mean cross-entropy, accuracy and the predicted classes, int64 `(N,)`.

    In float32 and eval mode, without smoothing, weights or augmentation.

    Args:
        size: side of the images, in pixels.
        between: called before each batch; may end it all by raising.
    """
    classifier.eval()
    loss, hits = torch.zeros(2, dtype=torch.float64, device=data.labels.device)
    predicted = []
    for images, labels in data.in_order(at_once(JUDGED_BATCH, size, JUDGED_SIDE)):
        between()
        with torch.inference_mode():
            logits = classifier.logits(images)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            predicted.append(logits.argmax(1))
            hits += (predicted[-1] == labels).sum()
    count = max(1, len(data))  # of fewer images than ranks, some judge none
    return float(loss) / count, float(hits) / count, torch.cat(predicted).cpu().numpy()
