"""No process that we start leaves a runtime's telemetry behind; one that somebody else started is told of."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SESSION = """
import sys, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A user whose home and cache are empty, and who has set nothing."""
    kept = {k: v for k, v in os.environ.items() if k not in {"ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK"}}
    return {**kept, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), **more}


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "onnx" in path.name.lower())


def test_probing_and_smoke_leave_nothing_in_the_users_cache(world: Any, tmp_path: Path) -> None:
    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra]

    for arguments in (["facts"], ["update"]):
        subprocess.run([*command, *arguments], env=environment(home), check=True, capture_output=True)

    assert left_in(home) == []
    assert world.station.current() == 1


def test_what_another_process_left_is_told_by_doctor(world: Any, tmp_path: Path, release_folders: Path) -> None:
    """The oracle: the runtime as anybody would start it; one that is quiet by itself has nothing to be told of."""
    home = tmp_path / "home"
    home.mkdir()
    model = release_folders / "1.0.0" / "onnx-fp32" / "model.onnx"
    outside = environment(home)
    subprocess.run([sys.executable, "-c", SESSION, str(model)], env=outside, check=True)
    facts = tmp_path / "facts.json"
    facts.write_bytes(world.facts.to_bytes())
    command = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra, "doctor"]

    done = subprocess.run(
        [*command, "--host", str(facts), "--json"], env=outside, capture_output=True, text=True, check=False
    )

    told = [one for one in json.loads(done.stdout)["health"] if one["subject"] == "telemetry"]
    assert done.returncode == 0
    assert bool(told) == bool(left_in(home))
    assert all("ORT_DISABLE_TELEMETRY=1" in one["remedy"] for one in told)
