"""A program that stands in for Nuke: takes ``[--gpu] -t SCRIPT JOB``, makes no picture of its own, and runs "models".

It is not Nuke. It runs the real ``score.py`` on the stand-in module of the plug-in's tests, whose knobs are compared
with the knob lists of a real Nuke, and does for `nuke.execute` what Read, Inference and Write would: reads the EXR,
runs the file that stands for a .cat, writes the EXR. A TorchScript archive is run by torch; a text says what to do
instead. A file beside this one changes the whole program: ``no-licence``, ``no-start``, ``gpu``.
"""

# mypy: ignore-errors

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import nuke  # noqa: E402 - the stand-in module beside this file


class Writes(nuke.Knob):
    """The knob ``file_type``: choosing EXR makes the knobs of EXR, as in Nuke."""

    node: Any

    def setValue(self, value: object) -> bool:  # noqa: N802 - Nuke's name
        if value == "exr":
            self.node.addKnob(nuke.Knob("datatype", "", "16 bit half", "Enumeration_Knob"))
        return bool(super().setValue(value))


def create(kind: str, knobs: str = "", inpanel: bool = True) -> Any:  # noqa: FBT002 - as Nuke has it
    node = made(kind, knobs, inpanel)
    if kind == "Write":
        knob = Writes("file_type", "", " ", "Enumeration_Knob")
        knob.node = node
        node.addKnob(knob)
    if kind == "Inference":
        on_gpu = (HERE / "gpu").exists() and "--gpu" in sys.argv
        node["gpuName"].setValue("NVIDIA RTX A4000" if on_gpu else "Not available")
    return node


def execute(node: Any, start: int, end: int) -> None:
    import numpy as np
    import OpenEXR

    inference = node.dependencies()[0]
    read = inference.dependencies()[0]
    if not (read["raw"].value() and node["raw"].value() and node["datatype"].value() == "32 bit float"):
        raise RuntimeError("a colour would be converted, or a value rounded")
    assert (node["channels"].value(), start, end) == ("all", 1, 1)
    planes = {
        name: channel.pixels
        for name, channel in OpenEXR.File(read["file"].value(), separate_channels=True).channels().items()
    }
    deed = Path(inference["modelFile"].value()).read_bytes()
    log = {name: inference[name].value() for name in ("useGPUIfAvailable", "halfPrecision", "tileSize", "tileOverlap")}
    rgb = np.stack([planes[name] for name in "RGB"])
    matte = by_torch(inference["modelFile"].value(), rgb) if deed[:2] == b"PK" else by_text(deed.decode(), rgb, log)
    if matte is not None and matte.shape != rgb.shape[1:]:
        planes = {}
    if matte is not None:
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {**planes, "A": matte.astype(np.float32)}).write(
            node["file"].value()
        )


def by_torch(path: str, rgb: Any) -> Any:
    import torch

    with torch.inference_mode():
        return torch.jit.load(path)(torch.from_numpy(rgb[None].copy()))[0, 0].numpy()


def by_text(deed: str, rgb: Any, log: dict[str, Any]) -> Any:
    import numpy as np

    word, _, rest = deed.partition(" ")
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "sleep":
        time.sleep(600)
    if word == "error":
        raise RuntimeError(rest)
    if word == "memory":
        held = [np.ones(1 << 24) for _ in range(10_000)]
        return held[0][:1]
    if word == "plant":
        for place in json.loads(rest):
            try:
                Path(place).write_text("planted", encoding="utf-8")
            except OSError as error:
                sys.stdout.write(f"{error}\n")
        return rgb[0] * (1 if Path(json.loads(rest)[0]).exists() else 0)
    if word == "knobs":
        told = [log["useGPUIfAvailable"], log["halfPrecision"], log["tileSize"] == "2048", log["tileOverlap"] / 100]
        return np.zeros_like(rgb[0]) + np.array(told, np.float32)[:, None]
    answers = {"red": rgb[0], "nan": rgb[0] * np.nan, "small": rgb[0][::2, ::2], "missing": None}
    return answers[word]


def main() -> None:
    sys.stdout.write("Nuke 15.1v3, 64 bit, a stand-in.\n")
    sys.stdout.flush()
    if (HERE / "no-licence").exists():
        sys.stdout.write("Failed to obtain a license: no licenses of nuke_r found on the server\n")
        sys.exit(100)
    if (HERE / "no-start").exists():
        time.sleep(600)
    script, job = sys.argv[sys.argv.index("-t") + 1 :]
    nuke.createNode, nuke.execute = create, execute
    sys.argv = [script, job, *(["--gpu"] if "--gpu" in sys.argv else [])]
    sys.modules["nuke"] = nuke
    runpy.run_path(script, run_name="__main__")


made = nuke.createNode

if __name__ == "__main__":
    main()
