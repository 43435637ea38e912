"""pandas: tables on the CPU. See `peregrine.tables`."""

from pandas import DataFrame

__all__ = ["DataFrame"]
