"""A station with the base installation alone: models run in another environment, which host.toml names."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.facts import HostFacts
from changeover_updater.settings import load_settings
from changeover_validators.probe import probe

pytestmark = [pytest.mark.install, pytest.mark.timeout(900)]


def station(base: Path, world: Any, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment that holds nothing but the base installation."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE", "CHANGEOVER"))}
    arguments = [str(base), "-m", "changeover_updater", "--config", str(world.config), *world.extra, *command]
    return subprocess.run(arguments, check=False, capture_output=True, text=True, env=clean, cwd=world.root)


def really_here(world: Any) -> HostFacts:
    """This machine's facts, probed and not remembered, so that the base installation must probe too."""
    settings = load_settings({}, config=world.config)
    (world.station.folder / "facts.json").unlink()
    return probe(dict(settings.runtimes), settings.nukes)


def test_base_plans_updates_and_goes_back_with_models_in_the_named_runtime(world: Any, base: Path) -> None:
    world.facts = really_here(world)
    first = world.publish("1.0.0")
    world.accept(first)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")

    plan = station(base, world, "plan", "--json")
    update = station(base, world, "update", "--json")

    assert plan.returncode == 0, plan.stderr + plan.stdout
    assert json.loads(plan.stdout)["moves"][0]["outcome"] == "take"
    assert update.returncode == 0, update.stderr + update.stdout
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    assert station(base, world, "update").returncode == 0
    assert station(base, world, "rollback", "--reason", "test").returncode == 0
    status = station(base, world, "status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["generation"]["channels"][0]["key"] == str(first.ref())
    assert station(base, world, "log", "--verify").returncode == 0


def test_base_without_a_named_runtime_exits_4_and_current_is_untouched(world: Any, base: Path) -> None:
    world.facts = really_here(world)
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    text = world.config.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("default = ")]
    world.config.write_text("\n".join(kept) + "\n", encoding="utf-8")

    update = station(base, world, "update")

    assert update.returncode == 4, update.stderr + update.stdout
    assert "[runtimes]" in update.stdout
    assert world.station.in_use().channels[0].key == str(first.ref())
    assert station(base, world, "status").returncode == 0
