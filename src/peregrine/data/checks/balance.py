"""How many images each class has, in each split."""

import numpy as np

from peregrine.data.checks.base import Case, Finding, Member, count, finding
from peregrine.data.checks.pool import Pool

_IMBALANCE = 10  # largest class over smallest, from where training notices


def find(pool: Pool) -> list[Finding]:
    """Classes that a split lacks, and classes that are much smaller than others."""
    findings: list[Finding] = []
    for split, part in pool.parts:
        counts, names = part.counts, np.array(part.class_names)
        lacking = names[counts == 0].tolist()
        findings += finding(
            "missing-class",
            f"{split} has no image of {len(lacking)} of {len(names)} classes; add some",
            [Case((Member("", split, name),), f"no image in {split}") for name in lacking],
        )
        present = counts[counts > 0]
        if len(present) and present.max() >= _IMBALANCE * present.min():
            few = np.flatnonzero((counts > 0) & (_IMBALANCE * counts <= present.max()))
            findings += finding(
                "imbalance",
                f"in {split} the largest class has {count(int(present.max()))} and the smallest {present.min():,}; "
                'add images, or set class_weights = "balanced"',
                [
                    Case((Member("", split, str(names[index])),), f"{count(int(counts[index]))} in {split}")
                    for index in few[np.argsort(counts[few], kind="stable")]
                ],
            )
    return findings
