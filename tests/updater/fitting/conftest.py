"""Releases of the zoo with recorded predictions, and every forged host: what decisions are held against.

Predictions are recorded once (``--update-goldens``) by the product's own predictor and kept in ``answers.json``, so a
golden file changes only when a decision, a host or a table does; that predictions are right is tested elsewhere.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import UndecidedError
from changeover_registry.records.memory import MemoryAnswer
from changeover_registry.records.policy import HardwarePolicy, Policy, VramPolicy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    Tile,
    Variant,
)
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.checks.budget import MIB
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.plans import choose_plan
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.zoo import architectures

HERE = Path(__file__).parent
PLATE = (4096, 2160)
TILES = (Tile(size=0), Tile(size=2048, overlap=64), Tile(size=1024, overlap=64), Tile(size=512, overlap=32))
NETS = ("unet", "resnet-aspp", "vit", "convgru", "mobilenet", "separable")
ONNX = Requires(ir_version=8, opset=17, domains=("ai.onnx",), operators=("Conv", "Relu"), dtypes=("float32",))

POLICIES = {
    "default": Policy(),
    "lean": Policy(
        hardware=HardwarePolicy(serve_on_cpu=True, ram_share="0.75"),
        vram=VramPolicy(instances=1, nuke_baseline_mib=512, display_headroom_mib=1024, compute_headroom_mib=256),
    ),
}
"""What is asked under: the defaults, and a studio that serves on the CPU and keeps less back."""


@dataclass(frozen=True)
class Recorded:
    """Predictions by net, tile and provider; asking for another one is undecided, as where nothing can be predicted."""

    answers: dict[str, MemoryAnswer] = field(repr=False)

    def __call__(self, net: str, variant: Variant, point: OperatingPoint) -> MemoryAnswer:
        key = f"{net}/{point.tile}/{point.provider}"
        if variant.runtime != "onnx" or key not in self.answers:
            raise UndecidedError(
                "memory prediction", where=variant.id, expected="a recording", actual="none", remedy="measure it there"
            )
        return self.answers[key]


def variant(contract: Contract, **fields: Any) -> Variant:
    entry = fields.get("entry", "model.onnx")
    base: dict[str, Any] = {
        "id": "onnx-fp32",
        "runtime": "onnx",
        "precision": "fp32",
        "loaders": ("python", "mlserver"),
        "entry": entry,
        "files": (
            FileEntry(path=entry, size=0, sha256="0" * 64, blocks=()),
            FileEntry(path="smoke.npz", size=0, sha256="1" * 64, blocks=()),
        ),
        "contract": contract,
        "requires": ONNX,
    }
    return Variant(**(base | fields))


def release(name: str, *variants: Variant) -> Release:
    return Release(
        model=f"zoo/{name}",
        version="1.0.0",
        summary=name,
        changes="first",
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("red", "green", "blue"), colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("alpha",), colour="raw"),),
        ),
        variants=variants,
    )


def contract_of(net: str) -> Contract:
    found = next(one for one in architectures() if one.name == net)
    return found.contract.model_copy(update={"tiles": TILES})


def releases() -> dict[str, tuple[str, Release]]:
    """Each release by its name, and the net whose predictions it has."""
    made = {net: (net, release(net, variant(contract_of(net)))) for net in NETS}
    unet = contract_of("unet")
    half = variant(unet, id="onnx-fp16", precision="fp16", requires=ONNX.model_copy(update={"dtypes": ("float16",)}))
    wide = ONNX.model_copy(update={"dtypes": ("bfloat16",), "compute_capability": "8.0"})
    newer = ONNX.model_copy(update={"ir_version": 13, "opset": 25})
    cats = (
        variant(
            unet,
            id="nuke-cat-torch2.1",
            runtime="nuke-cat",
            loaders=("nuke-inference",),
            entry="Roto.cat",
            derived_from="torchscript-fp32",
            requires=Requires(torch_line="2.1.1"),
        ),
        variant(
            unet,
            id="torchscript-fp32",
            runtime="torchscript",
            loaders=("python",),
            entry="model.pt",
            requires=Requires(torchscript_version=3, torch_line="2.1.1"),
        ),
    )
    made["two-precisions"] = ("unet", release("two-precisions", variant(unet), half))
    made["brain-float"] = ("unet", release("brain-float", variant(unet, id="onnx-bf16", requires=wide)))
    made["new-opset"] = ("mobilenet", release("new-opset", variant(contract_of("mobilenet"), requires=newer)))
    whole = contract_of("vit").model_copy(update={"tiles": TILES[:1]})
    made["whole-frame"] = ("vit", release("whole-frame", variant(whole)))
    made["nuke"] = ("unet", release("nuke", *cats))
    return made


def record() -> dict[str, MemoryAnswer]:
    """Predict every net at every tile on either provider, as the product does."""
    import onnxruntime

    from changeover_validators.vram.onnx_predictor import OnnxPredictor

    found = {}
    folder = HERE / "nets"
    folder.mkdir()
    try:
        for net in NETS:
            next(one for one in architectures() if one.name == net).build(folder / f"{net}.onnx")
            for provider in ("cuda", "cpu"):
                target = Target(
                    runtime="onnxruntime",
                    version=onnxruntime.__version__,
                    provider=provider,
                    interpreter=sys.executable,
                    context_bytes=400 * MIB if provider == "cuda" else 0,
                )
                contract = contract_of(net)
                predictor = OnnxPredictor(folder, f"{net}.onnx", contract, target)
                for tile in TILES:
                    size = tensor_size(contract, *PLATE, tile)
                    found[f"{net}/{tile}/{provider}"] = choose_plan(predictor, *size).answer
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return found


@pytest.fixture(scope="session")
def updating(pytestconfig: pytest.Config) -> bool:
    """Whether golden files are to be written anew."""
    return bool(pytestconfig.getoption("--update-goldens"))


@pytest.fixture(scope="session")
def recorded(updating: bool) -> Recorded:
    """The recorded predictions."""
    path = HERE / "answers.json"
    if updating:
        found = {key: json.loads(answer.to_bytes()) for key, answer in sorted(record().items())}
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    body = json.loads(path.read_text(encoding="utf-8"))
    return Recorded({key: MemoryAnswer.from_object(value, where=key) for key, value in body.items()})


class Zoo(dict[str, tuple[str, Release]]):
    """Releases by name, each with the net that its predictions are of; told in one word where a test fails."""

    def __repr__(self) -> str:
        return "the zoo"


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    """The releases."""
    return Zoo(releases())


@pytest.fixture(scope="session")
def policies() -> dict[str, Policy]:
    return POLICIES
