"""How long Nuke waits for the plug-in: import, opening a generation of 1,000 models among 1,000, and one resolution.

``python tests/plugins/nuke/bench_resolve.py [MODELS] [PYTHON]``. Each number is the best of nine fresh processes under
``python -I -S`` with the stand-in. "Nuke's modules" are those that Nuke has imported before any init.py of ours runs;
"cold" also pays for the standard library. "start" finds the store, leases and opens the generation. Ratios compare
with parsing the same ``generation.json``, which the plug-in does without by its index; nothing is asserted.
"""

# ruff: noqa: T201
# It is a script, and printing is its work.

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from changeover_registry.canonical import digest
from changeover_registry.names import release_folder
from changeover_registry.records.station import (
    Answer,
    Current,
    Generation,
    GenerationChannel,
    GenerationRelease,
    InstalledFile,
)
from changeover_updater.writers import write_cattery

HERE = Path(__file__).parent
PLUGIN = HERE.parents[2] / "plugins" / "nuke"
LINES = ("15.0", "15.1", "16.0", "17.0")
GENERATIONS = 1000

CHILD = """
import sys, time
plugin, standin, warm, store = sys.argv[1:5]
sys.path[:0] = [plugin, standin]
import nuke, os
os.environ.update(CHANGEOVER_STORE=store, CHANGEOVER_STATION="bench")
clock = time.perf_counter
if warm == "warm":
    import atexit, contextlib, errno, json, os, re, threading, typing
marks = [clock()]
import changeover_nuke
marks.append(clock())
changeover_nuke.start()
marks.append(clock())
found = changeover_nuke.resolve("vendor/model-1", "nuke-inference")
marks.append(clock())
assert found.path, found
for number in range(1000):
    changeover_nuke.resolve("vendor/model-1", "nuke-inference")
marks.append(clock())
import json
with open(store + "/stations/bench/generations/1000/generation.json", "rb") as stream:
    data = stream.read()
begun = clock()
json.loads(data.decode("utf-8"))
marks.append(clock() - begun)
print(json.dumps([b - a for a, b in zip(marks[:4], marks[1:5])] + [marks[5]]))
"""


def release(number: int, store: Path) -> GenerationRelease:
    """One release with a ``.cat`` for every line and ONNX for two other loaders, installed."""
    model, identity = f"vendor/model-{number}", digest(str(number).encode())
    folder = f"releases/{model}/{release_folder('1.0.0', identity)}"
    cat, onnx = f"{folder}/nuke-cat/m.cat", f"{folder}/onnx/m.onnx"
    (store / cat).parent.mkdir(parents=True)
    (store / cat).write_bytes(b"opaque")
    files = {path: (InstalledFile(path=path, size=6, sha256=identity),) for path in (cat, onnx)}
    answers = (
        *(Answer(loader="nuke-inference", nuke_line=x, variant="nuke-cat", path=cat, files=files[cat]) for x in LINES),
        *(Answer(loader=x, variant="onnx", path=onnx, files=files[onnx]) for x in ("python", "flame")),
    )
    key = f"{model}@1.0.0-{identity[:12]}"
    return GenerationRelease(key=key, model=model, version="1.0.0", digest=identity, answers=answers)


def prepare(store: Path, models: int) -> int:
    """A store with one generation of that many models; returns the size of its ``generation.json`` in bytes."""
    releases = tuple(release(number, store) for number in range(models))
    generation = Generation(
        number=GENERATIONS,
        station="bench",
        made_at="2026-11-22T13:45:00Z",
        why="a benchmark",
        site="/site",
        nuke_lines=LINES,
        releases=releases,
        channels=tuple(GenerationChannel(channel="stable", model=r.model, key=r.key) for r in releases),
    )
    folder = store / "stations" / "bench" / "generations" / str(GENERATIONS)
    folder.mkdir(parents=True)
    for number in range(1, GENERATIONS):
        (folder.parent / str(number)).mkdir()
        (folder.parent / str(number) / "generation.json").write_bytes(b"{}")
    (folder.parents[1] / "leases").mkdir()
    data = generation.to_bytes()
    (folder / "generation.json").write_bytes(data)
    write_cattery(generation, folder, store)
    (folder.parents[1] / "current").write_bytes(Current(generation=GENERATIONS).to_bytes())
    return len(data)


def measure(python: str, store: Path, warm: str) -> list[float]:
    """Seconds of import, start, first resolution, 1,000 resolutions, and parsing the same file: each the best."""
    command = [python, "-I", "-S", "-c", CHILD, str(PLUGIN), str(HERE / "standin"), warm, str(store)]
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(9)]
    return [min(column) for column in zip(*runs, strict=True)]


def main(models: int = 1000, python: str = sys.executable) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        size = prepare(store, models)
        print(f"{models} models, {GENERATIONS} generations, {len(LINES)} Nuke lines, {size / 1e6:.2f} MB, {python}")
        for warm in ("warm", "cold"):
            imported, started, first, thousand, parsed = measure(python, store, warm)
            whole = imported + started + first
            about = "Nuke's modules there" if warm == "warm" else "cold"
            print(
                f"{about:>20}: import {imported * 1e3:6.2f} ms, start {started * 1e3:6.2f} ms,"
                f" first resolve {first * 1e3:6.3f} ms, each further {thousand * 1e3:6.2f} us;"
                f" parsing alone {parsed * 1e3:6.2f} ms; start / parsing {started / parsed:4.2f},"
                f" import + resolve {(imported + first) * 1e3:6.2f} ms, all {whole * 1e3:6.2f} ms"
            )


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, str), sys.argv[1:], strict=False)))
