"""The smallest whole release, for tests that register one, in this process or in a child."""

import hashlib
from pathlib import Path

from changeover_registry.records.findings import Passed
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
    Tile,
    Variant,
)
from changeover_registry.records.verdict import GoldenSetRef, OperatingPoint, PointReport, ShotScore, Verdict

__all__ = ["accepted", "put_files", "small_release"]

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


def accepted(candidate: Release, jaccard: str = "0.91") -> Verdict:
    """A verdict that accepts it, with one score of one shot."""
    digest = candidate.digest()
    point = OperatingPoint(variant=VARIANT, precision="fp32", tile=Tile(size=256, overlap=32), provider="cpu")
    score = ShotScore(shot="shot-010", metric="jaccard", frames=12, candidate=jaccard, current="0.9")
    return Verdict(
        candidate=candidate.ref(),
        decision="accept",
        reason="every lower bound lies above its margin",
        made_at="2026-11-22T13:45:00Z",
        made_by="td@host",
        host="host",
        host_class=digest,
        facts=digest,
        policy=digest,
        sandbox="bubblewrap",
        golden_set=GoldenSetRef(name="atlas", version=2, digest=digest),
        findings=(Passed(check="trust"),),
        points=(PointReport(point=point, frame_us=1500, scores=(score,)),),
    )
