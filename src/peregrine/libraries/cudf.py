"""cuDF: tables on an NVIDIA GPU. See `peregrine.tables`."""

from cudf import DataFrame

__all__ = ["DataFrame", "check"]


def check() -> None:
    """Group something; raises whatever cuDF raises."""
    if DataFrame({"key": [1, 1], "value": [2, 3]}).groupby("key").sum()["value"].to_numpy().tolist() != [5]:
        raise RuntimeError("it computes wrong sums")
