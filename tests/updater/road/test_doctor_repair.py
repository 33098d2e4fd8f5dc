"""``doctor`` on a station that was damaged, and ``doctor --repair``: all of it back, and nothing worse."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.station import Current


@dataclass
class Studio:
    """A station that serves 1.1.0 in its second generation and keeps 1.0.0; `facts` spares the probing."""

    world: Any
    facts: str

    @property
    def store(self) -> Path:
        return Path(self.world.station.store.root)

    @property
    def station(self) -> Path:
        return Path(self.world.station.folder)

    def model(self, version: str = "1.1.0") -> Path:
        (found,) = self.store.glob(f"releases/acme/tiny-roto/{version}-*/onnx-fp32/model.onnx")
        return found

    def doctor(self, *arguments: str) -> tuple[int, Any]:
        code, out, err = self.world.run("doctor", "--host", self.facts, *arguments, "--json")
        assert out, err
        return code, json.loads(out)

    def tree(self) -> dict[str, tuple[bytes, int]]:
        """Every file that a session may read, with its mode; the record of what was done grows and is left out."""
        places = [self.store / "releases", self.station / "generations", self.station / "current"]
        files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
        return {str(path): (path.read_bytes(), path.stat().st_mode) for path in files if path.is_file()}


@pytest.fixture(scope="module")
def studio(module_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    world = module_world
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)
    facts = tmp_path_factory.mktemp("facts") / "facts.json"
    facts.write_bytes(world.facts.to_bytes())
    return Studio(world, str(facts))


def unprotect(path: Path) -> Path:
    path.chmod(0o644)
    return path


def flip_a_byte(studio: Studio) -> None:
    data = bytearray(studio.model().read_bytes())
    data[100] ^= 1
    unprotect(studio.model()).write_bytes(data)
    studio.model().chmod(0o444)


def cut_a_file(studio: Studio) -> None:
    os.truncate(unprotect(studio.model("1.0.0")), 10)


def remove_a_file(studio: Studio) -> None:
    studio.model().unlink()


def remove_a_release(studio: Studio) -> None:
    shutil.rmtree(studio.model("1.0.0").parents[1])


def link_a_file(studio: Studio) -> None:
    elsewhere = studio.world.root / "elsewhere.onnx"
    shutil.move(studio.model(), elsewhere)
    next(studio.store.glob("releases/acme/tiny-roto/1.1.0-*/onnx-fp32")).joinpath("model.onnx").symlink_to(elsewhere)


def give_a_file_two_names(studio: Studio) -> None:
    other = studio.world.root / "other.onnx"
    other.unlink(missing_ok=True)
    os.link(studio.model(), other)


def make_a_file_writable(studio: Studio) -> None:
    unprotect(studio.model())


def add_a_file(studio: Studio) -> None:
    (studio.model().parent / "evil.py").write_text("import os", encoding="utf-8")


def damage_the_pointer(studio: Studio) -> None:
    (studio.station / "current").write_bytes(b"7")


def empty_the_pointer(studio: Studio) -> None:
    (studio.station / "current").write_bytes(b"")


def remove_the_pointer(studio: Studio) -> None:
    (studio.station / "current").unlink()


def point_nowhere(studio: Studio) -> None:
    (studio.station / "current").write_bytes(Current(generation=99).to_bytes())


def damage_a_derived_file(studio: Studio) -> None:
    unprotect(studio.station / "generations" / "2" / "resolve.jsonl").write_bytes(b"{")


def lie_about_the_station(studio: Studio) -> None:
    from changeover_updater.settings import short_host

    told = studio.store / "stations" / "by-host" / short_host()
    told.parent.mkdir(exist_ok=True)
    told.write_text("gone\n", encoding="utf-8")


DAMAGES: dict[Callable[[Studio], None], tuple[int, str, str]] = {
    flip_a_byte: (5, "file", "wrong bytes"),
    cut_a_file: (5, "file", "wrong bytes"),
    remove_a_file: (3, "file", "missing"),
    remove_a_release: (3, "file", "missing"),
    link_a_file: (5, "file", "a link"),
    give_a_file_two_names: (5, "file", "a second name of another file"),
    make_a_file_writable: (3, "file", "mode 0644"),
    add_a_file: (3, "file", "no signed record names this file"),
    damage_the_pointer: (3, "pointer", "generation 2 is whole"),
    empty_the_pointer: (3, "pointer", "generation 2 is whole"),
    remove_the_pointer: (3, "pointer", "no such file"),
    point_nowhere: (3, "pointer", "names generation 99, which is not there"),
    damage_a_derived_file: (3, "generation", "not as it was made"),
    lie_about_the_station: (3, "host", "'gone', which is no station"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_told_with_its_repair_and_repair_puts_all_back(
    studio: Studio, damage: Callable[[Studio], None]
) -> None:
    before = studio.tree()
    damage(studio)

    code, told = studio.doctor()
    repaired, after = studio.doctor("--repair")

    expected, subject, words = DAMAGES[damage]
    assert code == expected
    found = [one for one in told["health"] if one["code"]]
    assert {(one["subject"], one["code"]) for one in found} == {(subject, expected)}
    assert all(words in one["found"] for one in found)
    assert all("changeover doctor --repair" in one["remedy"] for one in found)
    assert repaired == 0, after["health"]
    assert [one["failed"] for one in after["mended"]] == [None] * len(after["mended"])
    assert studio.tree().items() >= {k: v for k, v in before.items() if "resolve.jsonl" not in k}.items()
    assert not [path for path in studio.tree() if path.endswith("evil.py")]
    studio.world.ok("log", "--verify")


def test_what_does_not_belong_is_set_aside_and_not_thrown_away(studio: Studio) -> None:
    add_a_file(studio)

    assert studio.doctor("--repair")[0] == 0

    assert [path.read_text() for path in studio.store.glob("set-aside/**/evil.py")][-1] == "import os"


def test_repair_of_a_healthy_station_changes_nothing(studio: Studio) -> None:
    before, events = studio.tree(), len(studio.world.station.events())

    code, told = studio.doctor("--repair")

    assert (code, told["mended"]) == (0, [])
    assert told["hashed"] >= 2
    assert (studio.tree(), len(studio.world.station.events())) == (before, events)


def test_pointer_that_is_lost_comes_back_to_where_a_rollback_put_it(studio: Studio) -> None:
    studio.world.ok("rollback")
    (studio.station / "current").unlink()

    code, told = studio.doctor("--repair")

    assert code == 0
    assert studio.world.station.current() == 1
    assert [one["subject"] for one in told["health"] if "held since" in one["found"]] == ["hold"]
    studio.world.ok("unhold")
    studio.world.ok("rollback", "--to", "2")
    studio.world.ok("unhold")


def test_without_the_vendor_nothing_is_taken_away_and_the_rest_is_mended(studio: Studio) -> None:
    flip_a_byte(studio)
    damaged = studio.model().read_bytes()
    (studio.station / "current").unlink()
    away = studio.world.repository.with_name("away")
    studio.world.repository.rename(away)

    code, told = studio.doctor("--repair")
    away.rename(studio.world.repository)

    assert code == 5
    assert studio.model().read_bytes() == damaged
    failed = {one["kind"]: one["failed"] for one in told["mended"]}
    assert "away" in failed["file"] or "repository" in failed["file"]
    assert studio.world.station.current() == 1, "the one that is whole"
    assert studio.doctor("--repair")[0] == 0
    studio.world.ok("rollback", "--to", "2")
    studio.world.ok("unhold")


def test_pointer_and_a_file_of_what_it_named_come_back_together(studio: Studio) -> None:
    flip_a_byte(studio)
    (studio.station / "current").unlink()

    assert studio.doctor("--repair")[0] == 0

    assert studio.world.station.current() == 2


def test_site_that_is_gone_leaves_what_can_be_mended_without_it(studio: Studio) -> None:
    (studio.station / "current").unlink()
    make_a_file_writable(studio)
    site = studio.world.site.root
    site.rename(site.with_name("unmounted"))

    code, told = studio.doctor("--repair")
    site.with_name("unmounted").rename(site)

    assert code == 2
    assert "no such folder" in told["troubles"][0]
    assert studio.world.station.current() == 2
    assert studio.doctor()[0] == 0


def test_change_that_a_kill_left_open_is_closed(studio: Studio) -> None:
    from changeover_updater.events import EventMaker, replay

    made = EventMaker("abc", "update", "td", "2026-11-22T13:45:00Z", "killed", 2, 3)
    studio.world.station.record(made.event("intent"))

    code, told = studio.doctor()
    repaired, _ = studio.doctor("--repair")

    assert (code, repaired) == (3, 0)
    assert "that no event ended" in told["health"][0]["found"]
    assert replay(studio.world.station.events()).generation == 2
    assert studio.world.station.events()[-1].phase == "failed"


def test_generation_that_cannot_be_read_is_set_aside_and_another_is_in_use(studio: Studio) -> None:
    path = studio.station / "generations" / "2" / "generation.json"
    kept = path.read_bytes()
    unprotect(path).write_bytes(kept.replace(b'"number":2', b'"number": 2'))

    code, told = studio.doctor()
    repaired, _ = studio.doctor("--repair")

    assert code == 3
    assert {one["subject"] for one in told["health"] if one["code"]} == {"generation", "pointer"}
    assert repaired == 0
    assert studio.world.station.current() == 1
    assert list(studio.store.glob("set-aside/*/stations/vm1/generations/2/generation.json"))
    studio.world.ok("update")
    assert studio.world.station.in_use().channels[0].key.startswith("acme/tiny-roto@1.1.0")


def test_events_that_somebody_cut_are_told_and_not_made_up(studio: Studio) -> None:
    newest = max((studio.station / "events").glob("*.json"))
    data = newest.read_bytes()
    newest.unlink()

    code, told = studio.doctor("--repair")
    newest.write_bytes(data)

    assert code == 5
    (symptom,) = [one for one in told["health"] if one["subject"] == "events"]
    assert "the newest were cut off" in symptom["found"]
    assert "backup" in symptom["remedy"]


def test_choice_that_no_timestamp_reaches_is_finished_where_the_key_is(studio: Studio) -> None:
    metadata = studio.world.site.choice / "metadata"
    before = {name: (metadata / name).read_bytes() for name in ("timestamp.json",)}
    override = ("override", "add", "tiny-roto@1.0.0", "--check", "smoke", "--until", "3d")
    studio.world.ok(*override, "--reason", "killed before the timestamp moved")
    (metadata / "timestamp.json").write_bytes(before["timestamp.json"])

    code, told = studio.doctor()
    repaired, _ = studio.doctor("--repair")

    assert code == 3, told
    assert "no timestamp reaches it" in next(one for one in told["health"] if one["subject"] == "choice")["found"]
    assert repaired == 0
    assert "killed before the timestamp moved" in studio.world.ok("override", "list")


def test_sessions_that_ended_and_staging_of_ended_commands_are_swept(studio: Studio) -> None:
    lease = studio.station / "leases" / "old-1.json"
    lease.write_text("{}", encoding="utf-8")
    os.utime(lease, (0, 0))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = studio.store / "staging" / f"{os.uname().nodename}~{ended.pid}~0123456789ab"
    left.mkdir()
    (left / "part").write_bytes(b"x")

    code, told = studio.doctor()
    repaired, _ = studio.doctor("--repair")

    assert (code, repaired) == (0, 0)
    assert {"leases", "disk"} <= {one["subject"] for one in told["health"]}
    assert not lease.exists()
    assert not left.exists()


def test_a_person_reads_what_was_mended_and_what_is_left(studio: Studio) -> None:
    make_a_file_writable(studio)
    studio.world.ok("hold", "--reason", "deadline")

    code, out, _ = studio.world.run("doctor", "--host", studio.facts, "--repair")
    studio.world.ok("unhold")

    text = " ".join(out.split())
    assert code == 0
    assert "installed files hashed" in text
    assert "made read-only releases/acme/tiny-roto" in text
    assert "held since" in text
    assert "all is as it was made and signed" in text


def test_there_is_nothing_to_migrate_and_a_newer_format_is_refused(studio: Studio) -> None:
    before = studio.tree()

    assert "nothing to migrate" in studio.world.ok("doctor", "--migrate")
    (studio.store / "format").write_bytes(b"2\n")
    code, _, err = studio.world.run("doctor", "--migrate")
    (studio.store / "format").write_bytes(b"1\n")

    assert code == 2
    assert "format" in err
    assert "expected 1, found 2" in err
    assert studio.tree() == before


# Killed while it mends: real kills at the calls that change something on the disk.


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace")
@pytest.mark.parametrize(("call", "which"), [("rename", 1), ("rename", 2), ("fsync", 4), ("link", 1), ("unlink", 2)])
def test_repair_that_is_killed_leaves_nothing_worse_and_the_next_one_ends_it(
    studio: Studio, call: str, which: int
) -> None:
    before = studio.tree()
    flip_a_byte(studio)
    (studio.station / "current").unlink()
    damaged = studio.tree()
    command = [sys.executable, "-m", "changeover_updater", "--config", str(studio.world.config), "--station", "vm1"]
    inject = f"{call}:signal=KILL:when={which}"
    strace = ["strace", "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={inject}"]

    killed = subprocess.run(
        [*strace, *command, "doctor", "--host", studio.facts, "--repair"], capture_output=True, check=False
    )

    assert killed.returncode in {-9, 137}, killed.stderr
    for path, state in studio.tree().items():
        assert state in (before.get(path), damaged.get(path)), path
    assert studio.doctor("--repair")[0] == 0
    assert studio.tree() == before
    studio.world.ok("log", "--verify")
