"""The small models that the repository carries, each with the recipe and the digests that it was made by.

``<version>.onnx`` and ``<version>.json`` lie in this folder. ``python -m changeover_updater.demo.models`` makes them
anew with the same code that trains one of them live.
"""

import hashlib
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from changeover_registry.errors import TrustError
from changeover_registry.records.base import Digest, Record, Text, VersionText

__all__ = ["FOLDER", "ModelNote", "read_model", "read_note"]

FOLDER = Path(__file__).parent


class ModelNote(Record):
    """``<version>.json``: how a committed model was made. `data_digest` is that of all training pixels."""

    NAME: ClassVar[str] = "demo-model"

    version: VersionText
    plan: Text
    seed: int
    steps: int
    pictures: int
    kinds: tuple[str, ...]
    batch: int
    crop: int
    learning_rate: Text
    storage: Text
    parameters: int
    data_digest: Digest
    torch: Text
    size: int = Field(gt=0)
    sha256: Digest


def read_note(version: str, folder: Path = FOLDER) -> ModelNote:
    """How the committed model of a release was made."""
    path = folder / f"{version}.json"
    return ModelNote.from_bytes(path.read_bytes(), where=str(path))


def read_model(version: str, folder: Path = FOLDER) -> bytes:
    """The ONNX file of a release.

    Raises:
        TrustError: The file is not the one that the note beside it describes.
    """
    path = folder / f"{version}.onnx"
    data, note = path.read_bytes(), read_note(version, folder)
    digest = hashlib.sha256(data).hexdigest()
    if digest != note.sha256:
        raise TrustError(
            "wrong digest",
            where=str(path),
            expected=f"sha256 {note.sha256}, as {version}.json beside it says",
            actual=f"sha256 {digest}",
            remedy="restore both files, or make them anew with `make demo-models`",
        )
    return data
