"""What both engines say when memory runs out."""

from peregrine.errors import MachineError


def ran_out_in_steps(batch_size: int) -> MachineError:
    """While training: the batch decides how much is needed."""
    return MachineError(
        f"memory ran out with batch_size={batch_size}; use a smaller one, --set batch_size={max(1, batch_size // 2)}"
    )


def ran_out_in_answers(size: int) -> MachineError:
    """After training, while the model answered images of `size` pixels: how many at once is not the user's choice."""
    return MachineError(
        f"memory ran out while the trained model answered images of {size} pixels; close other programs and go on "
        "with --resume, which repeats no step"
    )
