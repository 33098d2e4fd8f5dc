"""Runs a ``.cat`` inside Nuke for a check: takes frames out of a folder, one after another, and lays the mattes beside.

Started as ``nuke -t score.py JOB.json`` by the check, which lays down ``request.N.json`` and ``plate.N.exr`` and waits
for ``answer.N.json`` and ``matte.N.exr``; ``started.json`` comes first. The plate holds the very values that the model
shall see, so Read and Write are raw and Nuke converts no colour. It ends when a file ``stop`` is there, when its
parent is gone, or when nothing was asked for ``idle_seconds``; every error is an answer. Standard library and `nuke`.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import nuke

_LOOK_SECONDS = 0.01
_MICROSECONDS = 1000000
_KNOBS = ("modelFile", "useGPUIfAvailable", "halfPrecision", "tileSize", "tileOverlap")


class Graph:
    """Read, Inference and Write in a row.

    Args:
        job: The values of the node's knobs, by their names.
    """

    def __init__(self, job: Dict[str, Any]) -> None:
        before = time.time()
        self.read = nuke.createNode("Read", inpanel=False)
        self.read["raw"].setValue(True)
        self.inference = nuke.createNode("Inference", inpanel=False)
        self.inference.setInput(0, self.read)
        for name in _KNOBS:
            self.inference[name].setValue(job[name])
        self.write = nuke.createNode("Write", inpanel=False)
        self.write.setInput(0, self.inference)
        # The knobs of a file type come into being when the type is chosen, so the order counts.
        for name, value in (("channels", "all"), ("raw", True), ("file_type", "exr"), ("datatype", "32 bit float")):
            self.write[name].setValue(value)
        self.load_us = _since(before)

    def gpu_name(self) -> str:
        """The GPU that the node says it uses; empty where it names none."""
        return str(self.inference["gpuName"].value() or "")

    def matte(self, plate: str, matte: str) -> int:
        """Run one frame from file to file; returns microseconds, reading and writing included."""
        self.read["file"].setValue(plate)
        self.write["file"].setValue(matte)
        before = time.time()
        nuke.execute(self.write, 1, 1)
        return _since(before)


Reply = Callable[[Path, Graph, int], Dict[str, Any]]
"""Answers one request, by its number, with what the graph made of its plate."""


def main(arguments: List[str], reply: Optional[Reply] = None) -> int:
    """Serve one job to its end, by `reply` or as `answer` does; returns the exit status."""
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    try:
        graph = Graph(job)
        about = {"kind": "started", "nuke": nuke.NUKE_VERSION_STRING, "load_us": graph.load_us}
        about["gpu_name"] = graph.gpu_name()
    except Exception as error:  # noqa: BLE001 - whatever Nuke raises is the answer
        put(folder / "started.json", failure(error))
        return 1
    put(folder / "started.json", about)
    return serve(folder, graph, float(job["idle_seconds"]), reply or answer)


def serve(folder: Path, graph: Graph, idle_seconds: float, reply: Reply) -> int:
    """Answer request after request until there is a reason to stop."""
    number, parent, until = 1, os.getppid(), time.time() + idle_seconds
    while time.time() < until and os.getppid() == parent and not (folder / "stop").exists():
        if not (folder / "request.{}.json".format(number)).exists():
            time.sleep(_LOOK_SECONDS)
            continue
        put(folder / "answer.{}.json".format(number), reply(folder, graph, number))
        number, until = number + 1, time.time() + idle_seconds
    return 0


def answer(folder: Path, graph: Graph, number: int) -> Dict[str, Any]:
    """The matte of one frame as a file, and what is to be said of it."""
    plate, matte = folder / "plate.{}.exr".format(number), folder / "matte.{}.exr".format(number)
    try:
        # Nuke's paths have forward slashes on every system.
        took_us = graph.matte(plate.as_posix(), matte.as_posix())
        return {"kind": "matte", "frame_us": took_us, "gpu_name": graph.gpu_name()}
    except Exception as error:  # noqa: BLE001 - as above
        return failure(error)


def failure(error: Exception) -> Dict[str, Any]:
    """An error as data."""
    return {"kind": "error", "class": type(error).__name__, "text": str(error)[:20000]}


def put(path: Path, body: Dict[str, Any]) -> None:
    """A JSON file that is there whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(body), encoding="utf-8")
    beside.replace(path)


def _since(before: float) -> int:
    return int((time.time() - before) * _MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
