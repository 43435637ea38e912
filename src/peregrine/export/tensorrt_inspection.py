"""What an engine's inspector says of its precision, on a machine that can load the engine.

The builder fuses layers and chooses kernels; what the parsed network promised has to be true of those too.
"""

from typing import Any

from peregrine.errors import CheckFailed

_HEAVY = ("conv", "gemm", "matmul", "matrixmultiply", "fullyconnected")
_FLOAT = ("float", "fp32")  # as in `Float` or `Row major linear FP32`
_NARROW = {"fp16": ("half", "fp16"), "int8": ("int8",)}


def assert_inspected(engine: dict[str, Any], precision: str) -> None:
    """Refuse an engine whose convolutions and products do not read what they were built for.

    Args:
        engine: the inspector's JSON at detailed verbosity: `Layers` with `Name`, `LayerType`, `Inputs`. Layers that are
            told by their names alone, as with less verbosity, are not judged.
        precision: `fp32` is not judged: its parsed network had no other type, and a builder widens nothing.

    Raises:
        CheckFailed: an fp16 engine has heavy layers in float32, or an int8 engine has none in INT8.
    """
    if precision not in _NARROW:
        return
    heavy = [layer for layer in engine["Layers"] if isinstance(layer, dict) and _is_heavy(layer)]
    if precision == "fp16":
        wrong = [layer["Name"] for layer in heavy if _reads(layer, _FLOAT)]
    else:
        wrong = [] if any(_reads(layer, _NARROW["int8"]) for layer in heavy) else [layer["Name"] for layer in heavy]
    if wrong:
        raise CheckFailed(
            f"the engine's inspector finds {len(wrong)} of {len(heavy)} heavy layers not in {precision}: "
            f"{', '.join(wrong[:5])}; convert the ONNX file again"
        )


def _is_heavy(layer: dict[str, Any]) -> bool:
    return any(word in str(layer.get("LayerType", "")).lower() for word in _HEAVY)


def _reads(layer: dict[str, Any], words: tuple[str, ...]) -> bool:
    """Whether its first input, the images on their way, has such a type."""
    first = (layer.get("Inputs") or [{}])[0]
    told = str(first.get("Format/Datatype", first.get("Datatype", ""))).lower()
    return any(word in told for word in words)
