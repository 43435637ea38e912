"""One usable model on disk: the model's file, what it is, what is known of it, and images to check it with.

    artifacts/onnx/
      model.onnx        the model: uint8 (N, H, W, 3) `images` in, float32 (N, C) `probabilities` out
      manifest.json     what the files are; immutable
      manifest.sha256   hex SHA-256 of manifest.json: the Artifact's id
      golden.npz        up to 16 images, the ancestor's probabilities, and those of each proved Candidate
      evidence.json     what was learned later: accuracy, parity; checksummed, and bound to the id

`Artifact.open` checks every size and hash before any library sees a byte of the model.
"""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peregrine import files, host
from peregrine.dataset import Dataset, Images
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.formats import FORMATS, Format, find_format
from peregrine.preprocess import Preprocess

GOLDEN_IMAGES = 16
ANCESTOR = "ancestor"  # key of the ancestor's own answers in golden.npz

Probabilities = npt.NDArray[np.float32]


class FileRecord(BaseModel):
    """Size and hash of one file of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size_bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an Artifact is. Written once, last, and never changed.

    Attributes:
        input: shape, dtype and name of what the model takes; `N` is free, a number there is a static batch.
        model: name, engine and options of the network, enough to build it again.
        recipe: the resolved recipe it was trained with.
        parent: id of the Artifact it was converted from; None for an ancestor.
        ancestor: id of the trained model at the root; None for the ancestor itself.
        temperature: what the logits are divided by before the softmax, inside the graph.
        notes: what the conversion wants to be known, such as the ONNX opset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_: Literal[1] = Field(1, alias="schema")
    task: Literal["multiclass"] = "multiclass"
    format: str
    precision: str
    input: dict[str, Any]
    class_names: tuple[str, ...]
    preprocess: Preprocess
    model: dict[str, Any]
    engine: str
    recipe: dict[str, Any]
    parent: str | None = None
    ancestor: str | None = None
    files: dict[str, FileRecord]
    temperature: float
    notes: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str]
    host: dict[str, Any]
    created: str


@dataclass(frozen=True)
class Golden:
    """Images that travel with a model, so that anyone can check it anywhere.

    Attributes:
        images: uint8 `(n, H, W, 3)`, n ≤ 16.
        answers: probabilities `(n, C)` of the ancestor, and of each proved Candidate by its key.
    """

    images: Images
    answers: dict[str, Probabilities]


@dataclass(frozen=True)
class Artifact:
    """A verified model on disk. Get one from `Artifact.open` or `Artifact.write`."""

    path: Path
    manifest: Manifest
    id: str

    @property
    def format(self) -> Format:
        return FORMATS[self.manifest.format]

    @property
    def model_path(self) -> Path:
        """The model's file, or folder."""
        return self.path / self.format.file

    @property
    def size_bytes(self) -> int:
        """Bytes of the model itself, without what travels beside it."""
        return sum(record.size_bytes for record in self.manifest.files.values())

    @property
    def batch(self) -> int | None:
        """The number of images that the model takes at once, or None where any number will do."""
        first = self.manifest.input["shape"][0]
        return first if isinstance(first, int) else None

    @property
    def root_id(self) -> str:
        """Id of the ancestor that this model is proved against: its own for an ancestor."""
        return self.manifest.ancestor or self.id

    @classmethod
    def open(cls, path: str | Path) -> "Artifact":
        """Read and verify an Artifact.

        Raises:
            UsageError: there is none at `path`.
            DamagedFile: a file is missing, changed or not ours; the message names it.
        """
        folder = Path(path)
        manifest_path = folder / "manifest.json"
        if not manifest_path.is_file():
            raise UsageError(f"an artifact is a folder with a manifest.json; found none at {folder}")
        content = manifest_path.read_bytes()
        identity = _sha256(content)
        seal = folder / "manifest.sha256"
        if not seal.is_file() or seal.read_bytes() != f"{identity}\n".encode():
            raise DamagedFile(f"{manifest_path} does not match manifest.sha256; export the model again")
        return cls._verified(folder, content, identity)

    @classmethod
    def _verified(cls, folder: Path, content: bytes, identity: str) -> "Artifact":
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise DamagedFile(
                f"{folder / 'manifest.json'} is not a manifest of schema 1 ({key}: {first['msg']}); export the model "
                "again, or open it with the version that wrote it"
            ) from None
        for name, record in manifest.files.items():
            _verify(folder, name, record)
        model = folder / find_format(manifest.format).file
        for path in _contents(model):  # what lies beside the model is not looked at by any library
            if path.relative_to(folder).as_posix() not in manifest.files:
                raise DamagedFile(f"{path} is not in the manifest; delete it or export the model again")
        artifact = cls(folder, manifest, identity)
        artifact.golden()
        return artifact

    @classmethod
    @contextlib.contextmanager
    def write(
        cls,
        path: Path,
        *,
        format: str,
        like: Mapping[str, Any],
        golden: Golden,
        notes: Mapping[str, Any] | None = None,
        batch: int | None = None,
    ) -> Iterator[Path]:
        """Yield an empty folder for the model's files; on leaving, the whole Artifact appears at `path` at once.

        Args:
            format: name of the format.
            like: the manifest's fields that the files do not tell: `class_names`, `preprocess`, `model`, `engine`,
                `recipe`, `parent`, `ancestor`, `temperature`. `inherited` gives those of a parent.
            golden: the images and the ancestor's answers.
            notes: a mapping that may still be filled inside the block.
            batch: how many images the model takes at once; None where any number will do.

        Raises:
            CheckFailed: the block wrote no model.
        """
        kind = find_format(format)
        with files.writing_folder(path) as folder:
            yield folder
            if not (folder / kind.file).exists():
                raise CheckFailed(f"an artifact of format {format} holds {kind.file}; none was written to {path}")
            recorded = {
                file.relative_to(folder).as_posix(): FileRecord(
                    size_bytes=file.stat().st_size, sha256=files.sha256(file)
                )
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            }
            size = Preprocess.model_validate(like["preprocess"]).size
            manifest = Manifest.model_validate(
                {
                    **like,
                    "schema": 1,
                    "format": format,
                    "precision": kind.precision,
                    "input": {"name": "images", "dtype": "uint8", "shape": [batch or "N", size, size, 3]},
                    "files": recorded,
                    "notes": dict(notes or {}),
                    "versions": host.versions(),
                    "host": host.describe(),
                    "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
            )
            content = (manifest.model_dump_json(by_alias=True, indent=2) + "\n").encode()
            identity = _sha256(content)
            packed = _pack_golden(golden)
            files.write_bytes(folder / "golden.npz", packed)
            _write_evidence(folder, identity, [_sha256(packed)], {})
            files.write_text(folder / "manifest.sha256", identity + "\n")
            files.write_bytes(folder / "manifest.json", content)

    def inherited(self) -> dict[str, Any]:
        """The manifest's fields that a conversion of this Artifact takes over."""
        kept = {"class_names", "preprocess", "model", "engine", "recipe", "temperature"}
        return {**self.manifest.model_dump(include=kept), "parent": self.id, "ancestor": self.root_id}

    def golden(self) -> Golden:
        """The golden images and answers, verified.

        Raises:
            DamagedFile: the file is missing or changed.
        """
        path = self.path / "golden.npz"
        content = path.read_bytes() if path.is_file() else b""
        if _sha256(content) not in self._evidence_file()["golden_sha256"]:
            raise DamagedFile(f"{path} is missing or was changed; export the model again")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            answers = {key.removeprefix("answer:"): arrays[key] for key in arrays.files if key != "images"}
            return Golden(arrays["images"], answers)

    def evidence(self) -> dict[str, Any]:
        """What was learned of this Artifact, by topic; `{}` at first.

        Raises:
            DamagedFile: the file is missing, changed, or belongs to another Artifact.
        """
        learned: dict[str, Any] = self._evidence_file()["learned"]
        return learned

    def learn(self, topic: str, content: Any, answers: Mapping[str, Probabilities] | None = None) -> None:
        """Replace one topic of the evidence, and add golden answers of proved Candidates."""
        learned = self.evidence()
        hashes = self._evidence_file()["golden_sha256"]
        if answers:
            golden = self.golden()
            packed = _pack_golden(Golden(golden.images, {**golden.answers, **answers}))
            # Two files cannot change at once: for a moment the evidence vouches for both versions of the other one.
            _write_evidence(self.path, self.id, [*hashes, _sha256(packed)], learned)
            files.write_bytes(self.path / "golden.npz", packed)
            hashes = [_sha256(packed)]
        _write_evidence(self.path, self.id, hashes, {**learned, topic: content})

    def _evidence_file(self) -> dict[str, Any]:
        path = self.path / "evidence.json"
        content = path.read_bytes() if path.is_file() else b""
        try:
            evidence: dict[str, Any] = json.loads(content)
            sound = content == _sealed(evidence) and (evidence["schema"], evidence["artifact"]) == (1, self.id)
        except (ValueError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise DamagedFile(f"{path} is missing, was changed or belongs to another artifact; export the model again")
        return evidence


def golden_images(dataset: Dataset) -> Images:
    """Up to 16 images that cover the classes: the first of each class in turn, then the second of each, and so on."""
    rank = np.zeros(len(dataset), np.int64)
    for label in range(len(dataset.class_names)):
        members = np.flatnonzero(dataset.labels == label)
        rank[members] = np.arange(len(members))
    order = np.lexsort((dataset.labels, rank))[:GOLDEN_IMAGES]
    return np.ascontiguousarray(dataset.images[np.sort(order)])


def _contents(model: Path) -> list[Path]:
    """The model's file, or every file and link in its folder."""
    if not model.is_dir():
        return [model]
    return sorted(path for path in model.rglob("*") if path.is_symlink() or not path.is_dir())


def _verify(folder: Path, name: str, record: FileRecord) -> None:
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DamagedFile(f"{folder / 'manifest.json'} lists {name!r}, which is outside; export the model again")
    found = path.stat().st_size if path.is_file() else None
    if found is None:
        raise DamagedFile(f"{path} is missing; export the model again")
    if found != record.size_bytes:
        raise DamagedFile(f"{path} has {found} bytes, its manifest says {record.size_bytes}; export the model again")
    if files.sha256(path) != record.sha256:
        raise DamagedFile(f"{path} was changed: its SHA-256 differs from the manifest's; export the model again")


def _pack_golden(golden: Golden) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"answer:{key}": value for key, value in golden.answers.items()}
    np.savez_compressed(buffer, images=golden.images, **arrays)
    return buffer.getvalue()


def _write_evidence(folder: Path, identity: str, golden_sha256: Sequence[str], learned: Mapping[str, Any]) -> None:
    evidence = {"schema": 1, "artifact": identity, "golden_sha256": list(golden_sha256), "learned": dict(learned)}
    files.write_bytes(folder / "evidence.json", _sealed(evidence))


def _sealed(evidence: Mapping[str, Any]) -> bytes:
    """The exact bytes of evidence.json: canonical JSON that contains the hash of itself without the seal."""
    content = {key: value for key, value in evidence.items() if key != "seal"}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    content["seal"] = _sha256(canonical)
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
