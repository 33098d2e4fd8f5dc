"""Writes release folders as a vendor has them before ``vendor smoke`` and ``vendor register``.

What stands in them: ``release.toml`` and one folder a variant with its file. Smoke files, sizes and digests are made by
those commands.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from changeover_updater.demo.models import read_model
from changeover_updater.demo.net import PLANS, multiple
from changeover_updater.demo.recipes import MODEL, RELEASES, ReleaseSpec

__all__ = ["CAT_MODEL", "opaque_cat", "write_cat_release", "write_release"]

CAT_MODEL = "acme/edge-roto"
_CAT_VERSION = "1.0.0"

_INTERFACE = """
[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "CC0-1.0"

[interface]
[[interface.inputs]]
name = "plate"
channels = ["R", "G", "B"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["A"]
colour = "raw"
"""

_TENSORS = """
[[variants.contract.inputs]]
name = "image"

[variants.contract.output]
name = "matte"
"""


def write_release(version: str, folder: Path, model: bytes | None = None) -> Path:
    """Write the release folder of one version of ``acme/person-roto``.

    Args:
        version: One of `RELEASES`.
        folder: Made if it is not there.
        model: The ONNX file, where it was trained just now; the committed one when absent.

    Returns:
        `folder`.
    """
    spec = RELEASES[version]
    place = folder / spec.variant
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(read_model(version) if model is None else model)
    (folder / "release.toml").write_text(_release_toml(spec), encoding="utf-8", newline="\n")
    return folder


def write_cat_release(folder: Path) -> Path:
    """Write the release folder of ``acme/edge-roto`` 1.0.0: opaque bytes where Nuke's own ``.cat`` would be.

    A real ``.cat`` can only be made inside a licensed NukeX. These bytes show how such a file travels; Nuke cannot run
    them, and their first line says so.
    """
    place = folder / "nuke-cat-torch2.1"
    place.mkdir(parents=True, exist_ok=True)
    (place / "EdgeRoto.cat").write_bytes(opaque_cat())
    (folder / "release.toml").write_text(_cat_toml(), encoding="utf-8", newline="\n")
    return folder


def opaque_cat(size: int = 65536) -> bytes:
    """`size` bytes that are always the same, compress badly and begin with a line that says what they are."""
    import numpy as np

    label = b"changeover demonstration: opaque bytes in the place of a .cat; Nuke cannot load this file\n"
    return label + np.random.default_rng(7).bytes(size - len(label))


def _release_toml(spec: ReleaseSpec) -> str:
    head = _head(MODEL, spec.version, spec.summary, spec.changes)
    lineage = f"\n[provenance]\nparent_release = {_text(f'{MODEL}@{spec.parent}')}\n" if spec.parent else ""
    variant = _variant(spec.variant, "onnx", ("python", "mlserver"))
    contract = _contract(multiple(PLANS[spec.recipe.plan]), spec.tiles)
    return head + lineage + _INTERFACE + variant + contract + _TENSORS


def _cat_toml() -> str:
    head = _head(CAT_MODEL, _CAT_VERSION, "Edge mattes for Nuke (opaque demonstration bytes).", "First release.")
    variant = _variant("nuke-cat-torch2.1", "nuke-cat", ("nuke-inference",))
    claim = '\n[variants.requires]\ntorch_line = "2.1.1"\n'
    return head + _INTERFACE + variant + _contract(8, ("none",)) + _TENSORS + claim


def _head(model: str, version: str, summary: str, changes: str) -> str:
    pairs = {
        "schema": "changeover.release-toml/1",
        "model": model,
        "version": version,
        "summary": summary,
        "changes": changes,
    }
    return "".join(f"{key} = {_text(value)}\n" for key, value in pairs.items())


def _variant(name: str, runtime: str, loaders: Sequence[str]) -> str:
    return (
        f"\n[[variants]]\nid = {_text(name)}\nruntime = {_text(runtime)}\nprecision = {_text('fp32')}\n"
        f"loaders = {_texts(loaders)}\n"
    )


def _contract(times: int, tiles: Sequence[str]) -> str:
    return (
        f"\n[variants.contract]\nevaluation = {_text('stateless')}\ncolour = {_text('srgb')}\n"
        f"multiple = {times}\npad = {_text('reflect')}\ntiles = {_texts(tiles)}\n"
    )


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(value)


def _texts(values: Sequence[str]) -> str:
    return json.dumps(list(values))
