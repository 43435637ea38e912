"""A Runtime without a library, for tests: answers by a fixed rule, as slowly or as wrongly as asked.

The rule is linear in the mean colour of an image, so equal images get equal answers in any batch. In a worker process
the Artifact's own file tells what is asked, where it is a JSON object: `{"delay_s": 0.001}`.
"""

import json
import time
from typing import Any

import numpy as np

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.metrics import softmax
from peregrine.runtimes.base import Runtime


class FakeRuntime(Runtime):
    """Opens any Artifact.

    Args:
        delay_s: what each image costs, waited busily after the answer was found.
        stale: from the second batch of a size on, give the answers of the first again, without a look at the images.
        falls_back: say that it runs on cuda, until some batches were answered.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact, delay_s: float = 0.0) -> None:
        super().__init__(candidate, artifact)
        asked = _asked(artifact)
        self.delay_s: float = asked.get("delay_s", delay_s)
        self._stale: dict[int, Probabilities] | None = {} if asked.get("stale") else None
        self._left_on_cuda: int = 30 if asked.get("falls_back") else 0
        self._weights = np.random.default_rng(0).normal(size=(3, len(self.class_names)))
        self._assert_provider()

    @property
    def provider(self) -> str:
        return "cuda" if self._left_on_cuda else "cpu"

    def _infer(self, images: Images) -> Probabilities:
        self._left_on_cuda = max(0, self._left_on_cuda - 1)
        if self._stale is not None and len(images) in self._stale:
            return self._stale[len(images)]
        answers: Probabilities = softmax(images.mean((1, 2)) / 64 @ self._weights).astype(np.float32)
        if self._stale is not None:
            self._stale[len(images)] = answers
        end = time.perf_counter() + self.delay_s * len(images)
        while time.perf_counter() < end:
            pass
        return answers


def _asked(artifact: Artifact) -> dict[str, Any]:
    content = artifact.model_path.read_bytes() if artifact.model_path.is_file() else b""
    return json.loads(content) if content.startswith(b"{") else {}
