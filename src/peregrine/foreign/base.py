"""Somebody's model, opened: one input of images, one number per class, whatever the library.

A kind of file is opened by a function of its own, in the catalogue under `foreign`:

    def open_model(path: Path) -> ForeignModel:
        \"\"\"Refuse what is not safe or not whole before a library sees it, then open it.\"\"\"

What may be wrong with somebody's file may also end the process that reads it, so all of this happens in a worker.
"""

import functools
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import catalog
from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, UsageError, machine_error
from peregrine.foreign.pixels import Pixels, Values
from peregrine.metrics import softmax
from peregrine.recipe import MAX_SIZE, MIN_SIZE

LAYOUTS = {"NCHW": 1, "NHWC": 3}  # the axis of the channels
OUTPUTS = ("logits", "probabilities")
MAX_BYTES = 2**31 - 1  # what protobuf can hold, and so what any of these formats can be asked for
SUFFIXES = {".onnx": "onnx", ".keras": "keras", ".h5": "keras", ".hdf5": "keras"}
LIMIT = 0.001  # of |Δp| between the Artifact and the file with preprocessing by hand, as of every fp32 export
TRIAL_SECONDS = 60.0  # for all that is tried; slow models are asked about fewer images
FEWEST_IMAGES = 64
_BATCH = 50
_ALONE = 4  # images that are asked about once more, each alone

Shape = tuple[int | None, ...]
Floats = npt.NDArray[np.float32]


class ForeignModel(ABC):
    """A model as its file has it: no preprocessing, answers of any scale.

    Attributes:
        path: of the file.
        format: of the Artifact that is made of it.
        shape: of the input, four axes; None is free. The first is the batch.
        dtype: of the input, `float32` or `uint8`.
        outputs: shapes by name.
        notes: what the manifest should tell, such as the opset.
    """

    format: str

    def __init__(self, path: Path, shape: Shape, dtype: str, outputs: dict[str, Shape], notes: dict[str, Any]) -> None:
        self.path, self.shape, self.dtype, self.outputs, self.notes = path, shape, dtype, outputs, notes
        if len(shape) != 4:
            raise UsageError(
                f"a model of images takes four axes, batch, channels and two sides; {path} takes {said(shape)}"
            )
        if dtype not in ("float32", "uint8"):
            raise UsageError(f"a model is imported in float32; {path} takes {dtype}; import the one that was trained")
        self.batch = shape[0]
        self.layout = ""
        self.size = 0
        self.output = ""

    @abstractmethod
    def _infer(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One batch in the model's own layout and dtype, `batch` images where that is set, to the chosen output."""

    @abstractmethod
    def write(self, folder: Path, pixels: Pixels, outputs: str) -> None:
        """Write the Artifact's file: uint8 `images` RGB NHWC to float32 `probabilities`, any batch."""

    @abstractmethod
    def reopen(self, folder: Path) -> Callable[[Images], Probabilities]:
        """What `write` wrote, for asking."""

    def settle(self, layout: str | None, size: int | None, classes: int | None) -> None:
        """Decide what the file leaves open.

        Raises:
            UsageError: it cannot be decided, or what is asked for contradicts the file.
        """
        self.layout = _layout(self.path, self.shape, layout)
        self.size = _size(self.path, self.shape, self.layout, size)
        self.output = self._choose_output(classes)

    def ask(self, values: Values) -> Floats:
        """Answers to preprocessed images: float32 `(N, H, W, 3)` to float32 `(N, C)`."""
        ordered = values.transpose(0, 3, 1, 2) if self.layout == "NCHW" else values
        step = self.batch or _BATCH
        answers = []
        for start in range(0, len(ordered), step):
            part = np.ascontiguousarray(ordered[start : start + step]).astype(self.dtype)
            count = len(part)
            if self.batch:
                part = np.concatenate([part, np.repeat(part[-1:], step - count, axis=0)])
            found = self._infer(part)
            if found.ndim < 2 or len(found) != len(part) or found.dtype != np.float32:
                raise UsageError(
                    f"a classifier gives one float32 number per class and image; {self.path} gives {found.dtype} "
                    f"{found.shape} for {len(part)} images"
                )
            answers.append(found.reshape(len(part), -1)[:count])
        return np.concatenate(answers)

    def _choose_output(self, classes: int | None) -> str:
        names = list(self.outputs)
        if len(names) > 1 and classes:
            names = [name for name, shape in self.outputs.items() if shape and shape[-1] == classes]
        if len(names) != 1:
            found = ", ".join(f"{name} {said(shape)}" for name, shape in self.outputs.items())
            wanted = f"with {classes} numbers per image" if classes else "with a number per class"
            raise UsageError(
                f"a classifier has one output {wanted}; {self.path} has {found}; save it with that one alone"
            )
        return names[0]


def find_kind(path: Path) -> str:
    """The catalogue's key for what `path` is, by its name alone.

    Raises:
        UsageError: it is nothing that can be imported.
    """
    if not path.exists():
        raise UsageError(f"import takes a model's file; nothing is at {path}")
    if path.is_dir():
        if any((path / name).is_file() for name in ("run.json", "manifest.json")):
            raise UsageError(f"{path} is Peregrine's own already; use it as it is")
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        raise UsageError(f"a folder that is imported is a SavedModel, with a saved_model.pb; {path} has none")
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    known = f"import takes {', '.join(SUFFIXES)} files and SavedModel folders; got {path}"
    if path.suffix.lower() in (".pt", ".pth", ".pkl", ".bin", ".ckpt"):
        raise UsageError(f"{known}, which may be a program; write it with torch.onnx.export where it was trained")
    raise UsageError(known)


def check_file(path: Path) -> None:
    """Refuse what no library should be asked to read.

    Raises:
        UsageError: it is no plain file, or larger than any model that can be imported.
        MachineError: it may not be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"a model is a plain file; {path} is none")
    check_size(path, found.st_size)
    try:
        path.open("rb").close()
    except OSError as error:
        raise machine_error(error, path) from None


def check_size(path: Path, size: int) -> None:
    """Refuse a model that is, or says that it becomes, larger than 2 GiB.

    Raises:
        UsageError: it is.
    """
    if size > MAX_BYTES:
        raise UsageError(f"a model that is imported has up to 2 GiB; {path} has {size / 2**30:.1f} GiB")


def said(shape: Shape) -> str:
    """A shape in words: `(N, 3, 32, 32)`, and `?` for what else is free."""
    parts = [str(axis) if axis is not None else "?" for axis in shape]
    if parts and shape[0] is None:
        parts[0] = "N"
    return f"({', '.join(parts)})"


def first_line(error: BaseException) -> str:
    """What a library says, in one line that is not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):  # a traceback inside the message
        lines = lines[-1:]
    return (lines[0] if lines else type(error).__name__)[:300]


def kind_of_outputs(answers: Floats) -> str:
    """`probabilities` where every row is a distribution, else `logits`; logarithms of probabilities are logits too."""
    within = (answers >= -1e-6).all() and (answers <= 1 + 1e-6).all()
    return "probabilities" if within and np.abs(answers.sum(1) - 1).max() < 1e-3 else "logits"


def as_probabilities(answers: Floats, outputs: str) -> Probabilities:
    """What the Artifact should give for these answers of the file."""
    return answers if outputs == "probabilities" else softmax(answers).astype(np.float32)


# ---- in the worker --------------------------------------------------------------------------------------------------


def inspect_task(path: str, kind: str, layout: str | None, size: int | None, classes: int | None) -> dict[str, Any]:
    """Worker task: open a file, and tell what it takes and gives."""
    model = _open(path, kind)
    model.settle(layout, size, classes)
    noise = np.random.default_rng(0).integers(0, 256, (1, model.size, model.size, 3)).astype(np.float32)
    return {
        "format": model.format,
        "layout": model.layout,
        "size": model.size,
        "dtype": model.dtype,
        "batch": model.batch,
        "classes": model.ask(noise).shape[1],
        "notes": model.notes,
    }


def import_task(
    path: str,
    kind: str,
    layout: str,
    size: int,
    classes: int,
    pixels: dict[str, Any],
    outputs: str | None,
    others: list[dict[str, Any]],
    samples: str,
    folder: str,
    answers: str,
) -> dict[str, Any]:
    """Worker task: write the Artifact's file, prove it, and ask the model what else it may have wanted.

    Args:
        path, kind, layout, size, classes: of the file, as `inspect_task` settled them.
        pixels: `Pixels.to_dict()`, how it wants them.
        outputs: `logits`, `probabilities`, or None to find out.
        others: what else it may have wanted, likewise.
        samples: .npz with `images`, uint8 `(n, H, W, 3)` in any order, and `golden` likewise.
        folder: where the file is written.
        answers: .npz to write: `given` `(n, C)`, the same for each of the first `others` as `0`, `1`, …, `(m, C)` with
            m ≤ n, and the Artifact's own `golden`.

    Returns:
        `outputs`, whether they were `found_out`, `between` (all are between 0 and 1, but sum to something else), and
        `largest_difference` between the Artifact and the file with preprocessing by hand, as |Δp|.

    Raises:
        CheckFailed: the answers are not numbers, depend on the other images of a batch, or the Artifact gives others.
    """
    model = _open(path, kind)
    model.settle(layout, size, classes)
    wanted = Pixels.from_dict(pixels)
    with np.load(samples, allow_pickle=False) as arrays:
        images, golden = arrays["images"], arrays["golden"]
    started = time.perf_counter()
    given = model.ask(wanted.apply(images))
    seconds_each = (time.perf_counter() - started) / len(images)
    _check_answers(model, wanted.apply(images[:_ALONE]), given)
    chosen = outputs or kind_of_outputs(given)
    if chosen == "probabilities" and kind_of_outputs(given) != chosen:
        raise UsageError(f"probabilities are 0 to 1 and sum to 1; {path} gives other numbers; leave out --outputs")
    model.write(Path(folder), wanted, chosen)
    final = model.reopen(Path(folder))
    difference = float(np.abs(final(images) - as_probabilities(given, chosen)).max())
    if not difference <= LIMIT:
        raise CheckFailed(
            f"the artifact made of {path} answers differently than the file does with its preprocessing by hand: "
            f"|Δp| up to {difference:.3g}, the limit is {LIMIT}; export the model anew with a free batch size"
        )
    found = {"given": given, "golden": final(golden)}
    if others:
        affordable = int(TRIAL_SECONDS / max(seconds_each * len(others), 1e-9))
        count = min(len(images), max(affordable, FEWEST_IMAGES))
        for number, other in enumerate(others):
            answered = model.ask(Pixels.from_dict(other).apply(images[:count]))
            found[str(number)] = np.nan_to_num(answered)  # what overflows fits no model
    with Path(answers).open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]  # keyword arguments are arrays here
    between = bool((given >= 0).all() and (given <= 1).all())
    return {
        "outputs": chosen,
        "found_out": outputs is None,
        "between": between and chosen == "logits",
        "largest_difference": difference,
    }


def _check_answers(model: ForeignModel, values: Values, given: Floats) -> None:
    if not np.isfinite(given).all():
        raise CheckFailed(
            f"{model.path} answers with what are no numbers (NaN or infinite); check --scale and the file"
        )
    alone = np.concatenate([model.ask(value[None]) for value in values])
    difference = float(np.abs(alone - given[: len(alone)]).max())
    if difference > 0.01 * max(1.0, float(np.abs(alone).max())):
        raise CheckFailed(
            f"{model.path} answers an image differently in other company, by {difference:.2g}: it was saved as for "
            "training; save it for inference, in PyTorch after model.eval()"
        )


@functools.lru_cache(maxsize=1)
def _open(path: str, kind: str) -> ForeignModel:
    model: ForeignModel = catalog.load("foreign", kind)(Path(path))
    return model


def _layout(path: Path, shape: Shape, wanted: str | None) -> str:
    possible = [layout for layout, axis in LAYOUTS.items() if shape[axis] in (3, None)]
    certain = [layout for layout, axis in LAYOUTS.items() if shape[axis] == 3]
    if not possible:
        raise UsageError(f"a model takes images of 3 channels; {path} takes {said(shape)}")
    if wanted is not None:
        if wanted not in LAYOUTS:
            raise UsageError(f"--layout is NHWC or NCHW; got {wanted!r}")
        if wanted not in possible:
            raise UsageError(f"{path} takes {said(shape)}, which is not {wanted}; leave out --layout")
        return wanted
    if len(certain) == 1 or len(possible) == 1:
        return (certain if len(certain) == 1 else possible)[0]
    raise UsageError(f"{path} takes {said(shape)}, where the channels may be first or last; give --layout NCHW or NHWC")


def _size(path: Path, shape: Shape, layout: str, wanted: int | None) -> int:
    sides = [shape[axis] for axis in (1, 2, 3) if axis != LAYOUTS[layout]]
    fixed = {side for side in sides if side is not None}
    if len(fixed) > 1:
        raise UsageError(f"images are square here; {path} takes {said(shape)}")
    size = next(iter(fixed), None)
    if size is None:
        size = wanted
    if size is None:
        raise UsageError(
            f"{path} takes images of any size; give the side in pixels that it was trained on, as --size 224"
        )
    if wanted not in (None, size):
        raise UsageError(f"{path} takes images of {size} pixels; got --size {wanted}; leave it out")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"images have {MIN_SIZE} to {MAX_SIZE} pixels on a side; {path} takes {size}")
    return size


def refuse_links(folder: Path) -> list[Path]:
    """All files in a folder, none of which is a link or anything else that leads outside.

    Raises:
        UsageError: one is; the message names it.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            entry = Path(parent) / name
            mode = entry.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UsageError(
                    f"a model is imported from plain files; {entry} is a link or something else; copy it whole"
                )
            if stat.S_ISREG(mode):
                found.append(entry)
    return found
