"""A Nuke session keeps what it opened while the station changes over and collects, until it ends."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_updater import collect as collecting
from changeover_updater.collect import Request
from changeover_updater.plugin import plugin_folder

HOST = Path(__file__).parents[2] / "plugins" / "nuke" / "standin" / "host.py"

SESSION = """
import hashlib, mmap, sys
import numpy
import onnxruntime
import changeover_nuke

def matte(path):
    image = numpy.linspace(0, 1, 3 * 64 * 64, dtype=numpy.float32).reshape(1, 3, 64, 64)
    run = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return hashlib.sha256(run.run(None, {"image": image})[0].tobytes()).hexdigest()

found = changeover_nuke.resolve("acme/tiny-roto", "python")
with open(found.path, "rb") as stream:
    kept = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
first = [found.release.version, matte(found.path), hashlib.sha256(kept).hexdigest()]
print("open", flush=True)
sys.stdin.readline()
again = changeover_nuke.resolve("acme/tiny-roto", "python")
answer = [first, [again.release.version, matte(again.path), hashlib.sha256(kept).hexdigest()]]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a mapped file go at all")
def test_an_open_session_gives_the_same_matte_through_changeovers_and_collections_and_then_lets_go(
    world: Any,
) -> None:
    policy = world.site.root / "policy.toml"
    short = "\n[retention]\ndays = 1\ngenerations = 2\n"
    policy.write_text(policy.read_text(encoding="utf-8") + short, encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "short retention")
    release = world.served("1.0.0")
    command = [sys.executable, "-B", str(HOST), str(plugin_folder()), "15.1v3", "terminal", SESSION]
    environment = {"CHANGEOVER_STORE": str(world.root / "store"), "CHANGEOVER_STATION": "vm1", "PATH": "/usr/bin"}

    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "open\n"
        for version in ("1.1.0", "1.2.0"):
            release = world.served(version, release)
        _collect(world, days=3)
        assert world.station.numbers() == (1, 2, 3), "generation 1 is leased"
        out, errors = session.communicate("go on\n", timeout=60)

    assert (session.returncode, errors) == (0, "")
    before, after = json.loads(out)
    assert before[0] == "1.0.0"
    assert after == before
    _collect(world, days=3)
    assert 1 not in world.station.numbers()
    assert list((world.station.folder / "leases").iterdir()) == []


def _collect(world: Any, days: int) -> None:
    request = Request(who="td@vm1", why="space", now=world.now + timedelta(days=days))
    collecting.collect(world.site, world.station, request, lambda _: None)
