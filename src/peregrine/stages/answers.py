"""The worker's side of a comparison: one model's answers to images that it is given."""

from typing import Any

import numpy as np

from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.stages.evaluating import ancestor_answers, predict_all
from peregrine.stages.target import Target


def answer_task(target: str, images: str, facts: str, output: str) -> dict[str, Any]:
    """Worker task: what a run's trained model, or an Artifact, says to all images.

    A trained model's answers come from its run's cache, or go into it: the same that proofs compare with.

    Args:
        target: path of a run or an Artifact.
        images: path of uint8 `(N, H, W, 3)`, opened memory-mapped.
        facts: path of the .npz with the images' `labels`, `ids` and `class_names`, in the model's class order.
        output: path of the .npz to write: `probabilities` `(N, C)`.
    """
    found = Target.find(target)
    with np.load(facts, allow_pickle=False) as known:
        part = Dataset(
            np.load(images, mmap_mode="r"), known["labels"], known["ids"], tuple(known["class_names"].tolist())
        )
    candidate = default_candidate(found.artifact)
    if found.run is not None and found.artifact.manifest.parent is None:
        probabilities = ancestor_answers(found, part)
    else:
        with candidate.open() as runtime:
            probabilities = predict_all(runtime, part, candidate.key)
    np.savez(output, probabilities=probabilities)
    return {"candidate": candidate.key}
