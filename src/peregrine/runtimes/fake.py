"""A Runtime without a library, for tests: answers by a fixed rule, as slowly or as wrongly as asked.

The rule is linear in the mean colour of an image, so equal images get equal answers in any batch.
"""

import time

import numpy as np

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.metrics import softmax
from peregrine.runtimes.base import Runtime


class FakeRuntime(Runtime):
    """Opens any Artifact and never reads its model.

    Args:
        delay_s: what each image costs, waited busily.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact, delay_s: float = 0.0) -> None:
        super().__init__(candidate, artifact)
        self.delay_s = delay_s
        self._weights = np.random.default_rng(0).normal(size=(3, len(self.class_names)))
        self._assert_provider()

    @property
    def provider(self) -> str:
        return "cpu"

    def _infer(self, images: Images) -> Probabilities:
        end = time.perf_counter() + self.delay_s * len(images)
        answers = softmax(images.mean((1, 2)) / 64 @ self._weights).astype(np.float32)
        while time.perf_counter() < end:
            pass
        return answers
