"""What a farm's lock names comes to a render host by the rules of every update, or not at all."""

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.records.farm import FarmLock, LockedNode
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor
from changeover_updater import initialise, vendors
from changeover_updater.cli.main import run
from changeover_updater.settings import load_settings
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_validators.probe import probe_key
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")


@dataclass
class Host:
    """A render host of a studio, and a lock on one release for every node of its model."""

    world: Any
    root: Path
    lock: Path

    @property
    def station(self) -> Station:
        return Station(Store(self.root / "store"), "render1")

    def ensure(self) -> tuple[int, str, str]:
        return self.run("ensure", str(self.lock))

    def run(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--config", str(self.root / "host.toml"), "--station", "render1", *words])
        return code, out.getvalue(), err.getvalue()

    def refused(self, expected: int) -> str:
        """The one line of an ensure that must end with that exit code, the station as it was."""
        before = self.station.current()
        code, _, err = self.ensure()
        assert code == expected, err
        assert err.count("\n") == 1
        assert self.station.current() == before
        return err


@pytest.fixture
def host(world: Any, tmp_path: Path) -> Callable[[Release], Host]:
    """Makes a render host with the artist's runtimes, and a lock on a release."""

    def make(release: Release) -> Host:
        root = tmp_path / "render"
        config = root / "host.toml"
        made = Host(world, root, tmp_path / "job.lock")
        initialise.initialise(
            initialise.Request(
                site=world.site.root,
                store=root / "store",
                station="render1",
                keys=root / "keys",
                config=config,
                nuke_json=None,
                who="render@render1",
                now=world.now,
            ),
            notice=lambda _: None,
        )
        runtimes = "[runtimes]" + world.config.read_text(encoding="utf-8").partition("[runtimes]")[2]
        head = config.read_text(encoding="utf-8").partition("[runtimes]")[0]
        config.write_text(head + runtimes.partition("[keys]")[0], encoding="utf-8")
        settings = load_settings({}, config=config)
        facts = world.facts.model_copy(update={"host": "render1"})
        made.station.remember_facts(probe_key(dict(settings.runtimes), settings.nukes), facts)
        line = LockedNode(model=release.model, version=release.version, digest=release.digest())
        made.lock.write_bytes(FarmLock(releases=(line,)).to_bytes())
        return made

    return make


@pytest.fixture
def chosen(world: Any) -> Release:
    """1.0.0, promoted to the channel."""
    release: Release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    return release


def test_a_release_that_the_channel_has_left_is_smoked_here_and_then_served(world: Any, host: Any) -> None:
    left = world.served("1.0.0")
    world.served("1.1.0", left)
    made = host(left)

    code, out, err = made.ensure()

    assert code == 0, err
    assert f"brought {left.ref()}" in out
    generation = made.station.in_use()
    assert [release.key for release in generation.releases] == [str(left.ref())]
    assert generation.releases[0].served() == {"onnx-fp32"}


def test_a_release_that_its_vendor_took_back_is_refused_to_a_host_that_never_had_it(
    world: Any, chosen: Release, host: Any
) -> None:
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "leaks hair", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    assert "leaks hair" in host(chosen).refused(3)


def test_what_a_station_rolled_back_from_and_its_vendor_took_back_is_not_served_again(
    world: Any, chosen: Release, host: Any
) -> None:
    newer = world.publish("1.1.0")
    made = host(newer)
    assert made.run("update")[0] == 0
    world.accept(newer, chosen)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    assert made.run("update")[0] == 0
    assert made.run("rollback", "--reason", "hair flickers")[0] == 0
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.1.0", "leaks hair", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    assert "leaks hair" in made.refused(3)
    assert made.station.current() == 1


def test_a_digest_that_begins_like_a_served_one_makes_no_generation(world: Any, chosen: Release, host: Any) -> None:
    made = host(chosen)
    assert made.run("update")[0] == 0
    forged = LockedNode(model=chosen.model, version="1.0.0", digest=chosen.digest()[:12] + "0" * 52)
    made.lock.write_bytes(FarmLock(releases=(forged,)).to_bytes())

    assert "no signed choice names" in made.refused(3)


def test_an_override_of_a_show_passes_over_nothing_for_what_the_site_chose(
    world: Any, chosen: Release, host: Any
) -> None:
    for verdict in world.site.verdicts.glob("*.json"):
        verdict.unlink()
    named = [word for check in ("vram", "speed", "golden", "smoke") for word in ("--check", check)]
    world.ok("override", "add", "tiny-roto@1.0.0", *named, "--show", "atlas", "--reason", "x", "--until", "14d")

    assert "golden" in host(chosen).refused(4)


def test_folders_that_are_no_shows_keep_nothing_back(world: Any, chosen: Release, host: Any) -> None:
    for name in ("E vil", "Thumbs.db"):
        (world.site.choice / "targets" / "shows" / name).mkdir(parents=True)

    assert host(chosen).ensure()[0] == 0
    world.ok("log", "--choice")


def test_a_release_without_a_verdict_for_this_host_is_undecided(world: Any, chosen: Release, host: Any) -> None:
    for verdict in world.site.verdicts.glob("*.json"):
        verdict.unlink()

    assert "golden" in host(chosen).refused(4)


def test_a_release_whose_record_is_gone_from_the_site_is_undecided(world: Any, chosen: Release, host: Any) -> None:
    world.site.vendor("acme").record_path(chosen.digest()).unlink()

    assert "run: changeover sync" in host(chosen).refused(4)


def test_a_release_whose_vendor_is_not_trusted_any_more_is_refused(world: Any, chosen: Release, host: Any) -> None:
    world.ok("trust", "remove", "acme")

    assert "acme, which is not trusted here" in host(chosen).refused(5)


def test_a_vendor_that_does_not_verify_says_so_itself(world: Any, chosen: Release, host: Any) -> None:
    for path in (world.site.vendor("acme").mirror / "metadata").glob("*.json"):
        path.write_bytes(path.read_bytes().replace(b'"signed"', b'"Signed"'))

    assert "metadata" in host(chosen).refused(5)


def test_a_release_that_fails_its_smoke_test_here_is_not_served_and_not_tried_again(
    world: Any, host: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "folders" / "1.0.0"
    shutil.copytree(world.folders / "1.0.0", bad)
    smoke = bad / "onnx-fp32" / "smoke.npz"
    arrays = dict(np.load(smoke))
    arrays["output0"] = 1 - arrays["output0"]
    np.savez_compressed(smoke, **arrays)
    world.folders = tmp_path / "folders"
    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "the verdict was made elsewhere")
    made = host(release)

    first, second = made.refused(3), made.refused(3)

    assert first.startswith("error: smoke: ")
    assert second.startswith("error: quarantine: ")
    assert [event.what for event in made.station.events()] == ["quarantine"]
