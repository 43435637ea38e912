"""An Artifact together with the way it is run. Parity verdicts and benchmark rows belong to Candidates."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peregrine import catalog, host
from peregrine.artifact import Artifact
from peregrine.errors import UsageError
from peregrine.formats import FORMATS

if TYPE_CHECKING:
    from peregrine.runtimes.base import Runtime

# Runtimes that run a float32 file in bfloat16 when they are asked to, where the CPU has it
_LOWERING = {"openvino"}
PROVIDERS = {"tensorrt": "cuda"}  # of runtimes that know no other; the rest run on the CPU unless asked otherwise


@dataclass(frozen=True)
class Candidate:
    """One way to run one Artifact.

    Attributes:
        artifact: the Artifact's folder.
        format: its format's name.
        runtime: key of the catalogue's runtimes.
        provider: the backend inside the runtime that must really run, `cpu` or `cuda`; asserted after opening.
        precision: the precision that runs, which a hint may lower below the file's: `fp32`, `bf16`, `fp16`, `int8`.
        threads: compute threads.
        batch: a static batch size, or None where any batch is taken.
    """

    artifact: Path
    format: str
    runtime: str
    provider: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    batch: int | None = None

    @property
    def key(self) -> str:
        """What tells it from others of the same run, in tables and JSON: `onnx@onnxruntime`.

        What is not as usual follows: `onnx@onnxruntime-cuda`, `openvino@openvino-bf16`, `onnx@onnxruntime-batch8`.
        """
        unusual = [self.provider] if self.provider != PROVIDERS.get(self.runtime, "cpu") else []
        if self.precision != FORMATS[self.format].precision:
            unusual.append(self.precision)
        if self.batch is not None:
            unusual.append(f"batch{self.batch}")
        return "-".join([f"{self.format}@{self.runtime}", *unusual])

    def open(self) -> "Runtime":
        """Verify the Artifact, load it with its library and return the opened `Runtime`.

        Raises:
            DamagedFile: the Artifact is not what its manifest says.
            MissingDependency: the runtime's library is not installed.
        """
        runtime: Runtime = catalog.load("runtime", self.runtime)(self, Artifact.open(self.artifact))
        return runtime

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for requests to workers and for reports."""
        return {**asdict(self), "artifact": str(self.artifact)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Candidate":
        return cls(**{**content, "artifact": Path(content["artifact"])})


def candidates(artifact: Artifact) -> Iterator[Candidate]:
    """All ways to run an Artifact here, the default first."""
    for runtime in artifact.format.runtimes:
        usual = Candidate(
            artifact=artifact.path,
            format=artifact.manifest.format,
            runtime=runtime,
            provider=PROVIDERS.get(runtime, "cpu"),
            precision=artifact.manifest.precision,
            threads=host.threads(),
            batch=artifact.batch,
        )
        yield usual
        if runtime in _LOWERING and usual.precision == "fp32" and host.has_bf16():
            yield replace(usual, precision="bf16")


def default_candidate(artifact: Artifact, runtime: str | None = None) -> Candidate:
    """The way an Artifact is run unless asked otherwise, or with the named runtime.

    Raises:
        UsageError: the runtime does not open this format.
    """
    for candidate in candidates(artifact):
        if runtime in (None, candidate.runtime):
            return candidate
    opens = ", ".join(artifact.format.runtimes)
    raise UsageError(f"a {artifact.manifest.format} artifact is opened by {opens}; got {runtime!r}")
