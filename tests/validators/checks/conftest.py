"""Releases made for one question each: a base that every check accepts, changed in the part that a test is about."""

from collections.abc import Callable
from typing import Any

import pytest

from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Knob,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)


@pytest.fixture
def make_variant() -> Callable[..., Variant]:
    """An ONNX variant for the loaders python and mlserver; `requires` and any field can be given."""

    def make(**fields: Any) -> Variant:
        entry = fields.get("entry", "model.onnx")
        base: dict[str, Any] = {
            "id": "onnx-fp32",
            "runtime": "onnx",
            "precision": "fp32",
            "loaders": ("python", "mlserver"),
            "entry": entry,
            "files": (FileEntry(path=entry, size=0, sha256="0" * 64, blocks=()),),
            "contract": Contract(
                evaluation="stateless",
                inputs=(TensorIn(name="x", port="plate", channels=("red", "green", "blue")),),
                output=TensorOut(name="y", port="matte"),
                colour="srgb",
            ),
            "requires": Requires(ir_version=10, opset=21, domains=("ai.onnx",), dtypes=("float32",)),
        }
        return Variant(**(base | fields))

    return make


@pytest.fixture
def make_release(make_variant: Callable[..., Variant]) -> Callable[..., Release]:
    """A release of one variant unless `variants` are given."""

    def make(**fields: Any) -> Release:
        base: dict[str, Any] = {
            "model": "acme/person-roto",
            "version": "1.0.0",
            "summary": "mattes of people",
            "changes": "first",
            "licences": Licences(code="MIT", weights="Apache-2.0", training_data="LicenseRef-Acme"),
            "interface": Interface(
                inputs=(Port(name="plate", channels=("red", "green", "blue"), colour="scene-linear"),),
                outputs=(Port(name="matte", channels=("alpha",), colour="raw"),),
                knobs=(Knob(name="softness", kind="float", default="0.5"),),
            ),
            "variants": (make_variant(),),
        }
        return Release(**(base | fields))

    return make
