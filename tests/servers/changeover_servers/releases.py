"""The smallest whole release, for tests that register one, in this process or in a child."""

import hashlib
from pathlib import Path

from changeover_registry.records.release import (
    BLOCK_BYTES,
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)

__all__ = ["put_files", "small_release"]

VARIANT = "onnx-fp32"


def small_release(model: str, version: str, content: bytes, *, changes: str = "changed") -> Release:
    """A release of one file; its bytes need not be a model, since a registry runs nothing."""
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    entry = FileEntry(
        path="model.onnx",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        blocks=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
    )
    return Release(
        model=model,
        version=version,
        summary="A release of tests.",
        changes=changes,
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("red",), colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("alpha",), colour="raw"),),
        ),
        variants=(
            Variant(
                id=VARIANT,
                runtime="onnx",
                precision="fp32",
                loaders=("python",),
                entry="model.onnx",
                files=(entry,),
                contract=Contract(
                    evaluation="stateless",
                    inputs=(TensorIn(name="x", port="plate", channels=("red",)),),
                    output=TensorOut(name="y", port="matte"),
                    colour="srgb",
                ),
                requires=Requires(opset=17),
            ),
        ),
    )


def put_files(folder: Path, content: bytes) -> dict[str, Path]:
    """Write such a release's file below `folder`; returns what `Registry.register_release` takes."""
    path = folder / VARIANT / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {f"{VARIANT}/model.onnx": path}
