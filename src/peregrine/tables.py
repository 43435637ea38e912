"""Tables: pandas's on the CPU or cuDF's on an NVIDIA GPU.

Columns are whole numbers, whose sums are the same on either.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import catalog, device

Whole = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]

_ROWS = "rows"


def group_sums(
    by: Mapping[str, Whole], values: Mapping[str, Whole] | None = None, library: Any = None
) -> dict[str, npt.NDArray[np.int64]]:
    """Sums over the rows that have the same keys.

    Args:
        by: the keys, columns `(N,)`.
        values: what is summed, columns `(N,)` of other names; none of them is called `rows`.
        library: of the table; by default pandas, or cuDF from the size on where that is faster.

    Returns:
        Columns of one row for each combination of keys that there is, rising: the keys, `rows` (how many have them) and
        the sums.

    Raises:
        UsageError, MissingDevice, MissingDependency: as `device.serving`.
    """
    count = len(next(iter(by.values())))
    columns = {name: np.asarray(column, np.int64) for name, column in {**by, **(values or {})}.items()}
    columns[_ROWS] = np.ones(count, np.int64)
    chosen = library or device.serving("tables", "grouping", count) or catalog.load("tables", "cpu")
    summed = chosen.DataFrame(columns).groupby(list(by), sort=True).sum().reset_index()
    return {name: np.asarray(summed[name].to_numpy(), np.int64) for name in columns}
