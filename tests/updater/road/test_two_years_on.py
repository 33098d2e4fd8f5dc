"""What is installed outlives every signature: two years on it loads, nothing new comes, and the sentence says why."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from changeover_registry.signing import load_signer

ROOT = Path(__file__).parents[3]
FAKETIME = shutil.which("faketime")


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    module_world.served("1.0.0")
    return module_world


def changeover(world: Any, *arguments: str, later: str = "+2y") -> subprocess.CompletedProcess[str]:
    """One command as a process whose clock is ahead."""
    command = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra, *arguments]
    return subprocess.run([str(FAKETIME), "-f", later, *command], capture_output=True, text=True, check=False)


LOADS = """
import sys, onnxruntime, numpy
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {"image": numpy.zeros((1, 3, 8, 8), numpy.float32)})[0].shape)
"""
RESOLVES = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import changeover_nuke
print(json.dumps([list(changeover_nuke.models()), changeover_nuke.status()]))
"""


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed: apt-get install faketime")
def test_two_years_on_by_the_clock_the_model_loads_and_updates_are_refused(studio: Any) -> None:
    before = (studio.station.folder / "current").read_bytes()

    update = changeover(studio, "update")
    status = changeover(studio, "status", "--json")
    told = changeover(studio, "status")

    assert update.returncode == 5
    assert update.stderr.count("\n") == 1
    for words in ("expired at", "run changeover sync where the studio's keys are", "what is installed goes on"):
        assert words in update.stderr
    assert status.returncode == 0
    assert {one["stage"] for one in json.loads(status.stdout)["expiring"]} == {"expired"}
    assert json.loads(status.stdout)["generation"]["channels"][0]["key"].startswith("acme/tiny-roto@1.0.0")
    assert "updates are refused, what is installed stays in use" in told.stdout
    assert (studio.station.folder / "current").read_bytes() == before
    _loads_and_resolves(studio)


def _loads_and_resolves(studio: Any) -> None:
    """The real runtime on the installed file, and the plug-in as Nuke's interpreter runs it."""
    (model,) = studio.station.store.root.glob("releases/acme/tiny-roto/1.0.0-*/onnx-fp32/model.onnx")
    later = [str(FAKETIME), "-f", "+2y", sys.executable]
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    loaded = subprocess.run([*later, "-c", LOADS, str(model)], capture_output=True, text=True, env=quiet, check=True)
    assert loaded.stdout.strip() == "(1, 1, 8, 8)"
    plugin = [str(ROOT / "plugins" / "nuke"), str(ROOT / "tests" / "plugins" / "nuke" / "standin")]
    environment = {**quiet, "CHANGEOVER_STORE": str(studio.station.store.root), "CHANGEOVER_STATION": "vm1"}
    command = [*later, "-S", "-E", "-c", RESOLVES, *plugin]
    answered = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answered.returncode == 0, answered.stderr
    models, said = json.loads(answered.stdout)
    assert models == ["acme/tiny-roto"]
    assert "generation 1" in said


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed: apt-get install faketime")
@pytest.mark.parametrize(("later", "words"), [("+24d", "in 6 days"), ("+1d", None), ("+29d12h", "within a day")])
def test_what_expires_is_told_before_it_does(studio: Any, later: str, words: str | None) -> None:
    seconds = {"+24d": 24 * 86400, "+1d": 86400, "+29d12h": 29 * 86400 + 43200}[later]

    done = changeover(studio, "status", later=f"+{seconds}s")

    assert done.returncode == 0
    told = f"timestamp metadata of the studio's choice expires {words}"
    assert (told in done.stdout) is (words is not None), done.stdout
    assert ("expires" in done.stdout) is (words is not None)


# The same without a tool that moves the clock: the newest metadata is signed as of long ago.


@pytest.fixture
def aged(studio: Any) -> Any:
    """The studio whose choice nobody renewed; it is renewed after the test."""
    _sign_again(studio, studio.now - timedelta(days=1))
    yield studio
    _sign_again(studio, studio.now + timedelta(days=30))


def _sign_again(world: Any, expires: Any) -> None:
    path = world.site.choice / "metadata" / "timestamp.json"
    timestamp: Metadata[Any] = Metadata.from_file(str(path))
    timestamp.signed.expires = expires
    timestamp.signed.version += 1
    timestamp.sign(load_signer(world.root / "keys" / "online" / "site.pem"))
    path.write_bytes(timestamp.to_bytes())


COMMANDS: dict[str, Callable[[Any], tuple[int, str, str]]] = {
    "update": lambda world: world.run("update"),
    "plan": lambda world: world.run("plan"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_expired_choice_stops_what_is_new_by_name_and_nothing_else(aged: Any, command: str) -> None:
    before = (aged.station.folder / "current").read_bytes()

    code, _, err = COMMANDS[command](aged)

    assert (code, err.count("\n")) == (5, 1)
    assert "timestamp.json: expected metadata that has not expired, found expired at" in err
    assert "what is installed goes on" in err
    assert (aged.station.folder / "current").read_bytes() == before
    assert aged.run("status")[0] == 0


def test_doctor_tells_of_the_expired_choice_with_who_renews_it(aged: Any, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_bytes(aged.facts.to_bytes())

    code, out, _ = aged.run("doctor", "--host", str(facts), "--json")

    assert code == 5
    (symptom,) = [one for one in json.loads(out)["health"] if one["subject"] == "expiry"]
    assert symptom["remedy"] == "run changeover sync where the studio's site key is"
    assert "what is installed stays in use" in symptom["found"]


def test_rollback_and_hold_need_nothing_that_is_signed(aged: Any) -> None:
    assert aged.run("hold", "--reason", "nobody renewed")[0] == 0
    assert aged.run("unhold")[0] == 0
