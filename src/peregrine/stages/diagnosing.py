"""What this machine has, what is missing, and what each format needs."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from peregrine import catalog, device, host
from peregrine.export.routes import steps
from peregrine.formats import FORMATS

# extra -> the modules that it brings; looked for without importing them
EXTRAS = {
    "tensorflow": ("tensorflow", "keras", "tf2onnx", "tensorboard"),
    "torch": ("torch", "onnxscript", "safetensors", "tensorboard"),
    "litert": ("ai_edge_litert",),
    "loadgen": ("mlperf_loadgen",),
    "openvino": ("openvino", "nncf"),
    "tensorrt": ("tensorrt|tensorrt_rtx", "torch"),  # either
    "hub": ("huggingface_hub",),
    "check": ("cleanlab",),
    "rapids": ("cupy", "cudf", "array_api_compat"),
}
FOR_A_GPU = {"rapids"}  # extras that a machine without one has no use for
TRAINING = {"keras": "tensorflow", "torch": "torch"}  # formats that training gives, and the extra that it needs


@dataclass(frozen=True)
class FormatState:
    """Whether a format can be built here, and what is missing."""

    name: str
    file: str
    precision: str
    summary: str
    runtimes: tuple[str, ...]
    built_from: tuple[str, ...]
    missing: tuple[str, ...]


def diagnose() -> dict[str, Any]:
    """The machine, the libraries and the formats, as plain values.

    Raises:
        UsageError: `PEREGRINE_DEVICE` is nonsense.
    """
    computing = device.describe()
    extras = [extra for extra in EXTRAS if computing["gpu"] or extra not in FOR_A_GPU]
    return {
        "host": host.describe(),
        "versions": host.versions(),
        "computing": computing,
        "extras": {extra: {"missing": missing_modules(extra)} for extra in extras},
        "formats": [vars(state) for state in format_states()],
    }


def missing_modules(extra: str) -> list[str]:
    """Modules of an extra, or of several set apart by commas, that are not installed."""
    modules = [module for part in extra.split(",") for module in EXTRAS.get(part, ())]
    return [module for module in modules if not any(map(_installed, module.split("|")))]


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def format_states() -> list[FormatState]:
    """All formats, with what each is built from and what this machine lacks for it."""
    states = []
    for format in FORMATS.values():
        edges = [step for step in steps() if step.target == format.name]
        extras = {step.source: catalog.find("edge", step.edge).extra for step in edges}
        if format.name in TRAINING:
            extras = {"training": TRAINING[format.name], **extras}
        lacks = [{extra for extra in needed.split(",") if missing_modules(extra)} for needed in extras.values()]
        states.append(
            FormatState(
                format.name,
                format.file,
                format.precision,
                format.summary,
                format.runtimes,
                tuple(extras),
                tuple(sorted(set().union(*lacks))) if all(lacks) else (),
            )
        )
    return states
