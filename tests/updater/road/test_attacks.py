"""Attacks on a station and its studio: files planted, altered, removed and damaged, and what is left standing."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import clock
from changeover_registry.records.choice import Choice
from changeover_registry.repository import choice
from changeover_registry.repository.keys import StudioKeys
from changeover_updater import initialise
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.studio import read_choices


def promoted(world: Any, name: str = "1.0.0") -> Any:
    """A release that is accepted and promoted, and not yet brought to the station."""
    release = world.publish(name)
    world.accept(release)
    world.ok("promote", f"{release.model}@{release.version}", "--reason", "test")
    return release


def installed(world: Any, release: Any) -> Path:
    folder: Path = world.station.store.variant_folder(release.ref(), release.variants[0].id)
    return folder


def planted(world: Any, release: Any) -> Path:
    """The release's folder in the store, put there by somebody else with its own right bytes."""
    folder = installed(world, release)
    for file in release.variants[0].files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((world.folders / release.version / release.variants[0].id / file.path).read_bytes())
    return folder


def test_planted_folder_with_other_bytes_of_the_same_size_is_never_served(world: Any) -> None:
    model = planted(world, promoted(world)) / "model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)

    code, _, err = world.run("update")

    assert code == 5
    assert str(model) in err
    assert world.station.current() is None


def test_planted_folder_whose_file_is_a_link_is_never_served(world: Any, tmp_path: Path) -> None:
    model = planted(world, promoted(world)) / "model.onnx"
    elsewhere = model.rename(tmp_path / "elsewhere.onnx")
    model.symlink_to(elsewhere)

    code, _, err = world.run("update")

    assert code == 5
    assert "a link" in err
    assert world.station.current() is None


def test_planted_folder_with_the_right_bytes_is_used(world: Any) -> None:
    planted(world, promoted(world))

    assert world.run("update")[0] == 0
    assert world.station.current() == 1


def test_file_that_is_gone_from_an_installed_release_is_brought_back_by_update(world: Any) -> None:
    release = world.served("1.0.0")
    model = installed(world, release) / "model.onnx"
    data = model.read_bytes()
    model.unlink()

    code, _, _ = world.run("update")

    assert code == 0
    assert model.read_bytes() == data
    assert world.station.current() == 1


def test_file_that_is_gone_from_a_kept_release_is_brought_back_with_the_next_changeover(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    (installed(world, first) / "model.onnx").unlink()

    world.ok("update")
    world.ok("rollback", "--reason", "test")

    assert world.station.current() == 1
    world.station.store.verify(first.ref(), first.variants[0])


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[" * 100_000, b'{"ext":{},"generation":77,"schema":"changeover.current/1"}']
)
def test_damaged_pointer_is_named_and_rollback_to_a_generation_mends_it(world: Any, data: bytes) -> None:
    world.served("1.0.0")
    (world.station.folder / "current").write_bytes(data)

    code, _, err = world.run("update")
    assert code in {2, 3}
    assert "changeover rollback --to N" in err
    assert world.run("rollback", "--reason", "test")[0] == code

    world.ok("rollback", "--to", "1", "--reason", "the pointer was damaged")
    assert world.station.current() == 1


def unchanged(last: Choice | None) -> Choice:
    assert last is not None
    return last


def test_show_that_nobody_promotes_to_for_a_year_locks_nobody_out(world: Any, long_ago: Any) -> None:
    world.served("1.0.0")
    world.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "test")
    keys = StudioKeys.in_folder(world.root / "keys")
    choice.write(world.site.choice, keys, "shows/atlas", unchanged, long_ago)
    code, _, err = world.run("update")
    assert code == 5
    assert "expired" in err

    world.ok("promote", "tiny-roto@1.0.0", "--channel", "beta", "--reason", "something else altogether")

    world.ok("update")
    found = {entry.scope: entry for entry in read_choices(world.site, world.station)}
    assert [p.release.version for p in found["shows/atlas"].channels] == ["1.0.0"]
    assert found["shows/atlas"].entry.what == "renew"
    assert found["site"].entry.what.endswith("to beta")


def test_choice_is_not_renewed_before_half_of_its_life_is_over(world: Any) -> None:
    promoted(world)
    world.ok("promote", "tiny-roto@1.0.0", "--channel", "beta", "--reason", "test")

    assert "renew" not in world.ok("log", "--choice")


def test_several_inits_at_once_make_one_site_that_holds(tmp_path: Path) -> None:
    start, begun, failed = clock.now(), threading.Barrier(4), []

    def make(number: int) -> None:
        begun.wait()
        try:
            initialise.initialise(
                initialise.Request(
                    site=tmp_path / "site",
                    store=tmp_path / "store",
                    station="vm1",
                    keys=tmp_path / "keys",
                    config=tmp_path / "host.toml",
                    nuke_json=None,
                    who="td@vm1",
                    now=start - timedelta(seconds=number),
                ),
                notice=pytest.fail,
            )
        except Exception as error:  # noqa: BLE001 - a thread's error would be lost
            failed.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    found = read_choices(Site(tmp_path / "site"), Station(Store(tmp_path / "store"), "vm1"))
    assert [entry.number for entry in found] == [1]


def test_link_in_place_of_a_lock_does_not_empty_the_file_behind_it(world: Any, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious", encoding="utf-8")
    (world.station.folder / "lock").unlink(missing_ok=True)
    (world.station.folder / "lock").symlink_to(precious)

    assert world.run("hold", "--reason", "test")[0] == 9
    assert precious.read_text(encoding="utf-8") == "precious"
    assert world.station.hold() is None


def test_junk_among_the_verdicts_counts_for_nothing(world: Any) -> None:
    promoted(world)
    folder = world.site.verdicts
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to(folder / "loop.json")
    (folder / "nested.json").write_bytes(b"[" * 100_000)
    with (folder / "huge.json").open("wb") as file:
        file.truncate(2**40)

    assert world.run("update")[0] == 0
    assert world.station.current() == 1


@pytest.mark.parametrize("name", ["host.toml", "site/policy.toml"])
def test_deep_nesting_in_a_settings_file_is_one_line_and_2(world: Any, name: str) -> None:
    (world.root / name).write_bytes(b"a = " + b"[" * 100_000)

    code, _, err = world.run("plan")

    assert (code, "Traceback" in err) == (2, False)
    assert name.rpartition("/")[2] in err


def test_deep_nesting_in_host_facts_is_one_line_and_2(world: Any, tmp_path: Path) -> None:
    world.publish("1.0.0")
    facts = tmp_path / "facts.json"
    facts.write_bytes(b"[" * 100_000)

    code, _, err = world.run("check", "tiny-roto@1.0.0", "--host", str(facts))

    assert code == 2
    assert "facts.json" in err


def test_broken_record_of_events_does_not_close_the_way_back(world: Any) -> None:
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)
    newest = max((world.station.folder / "events").glob("*.json"))
    newest.chmod(0o644)
    newest.write_text("{", encoding="utf-8")

    world.ok("rollback", "--reason", "two in the morning")

    assert world.station.current() == 1
    assert world.station.hold() is not None
    assert world.run("log", "--verify")[0] == 5


def test_damaged_newest_generation_stops_neither_update_nor_rollback(world: Any) -> None:
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)
    world.ok("rollback", "--reason", "test")
    damaged = world.station.folder / "generations" / "2" / "generation.json"
    damaged.chmod(0o644)
    damaged.write_text("{", encoding="utf-8")

    world.ok("rollback", "--to", "1", "--reason", "test")
    world.ok("unhold")
    world.ok("update")

    assert world.station.current() == 3


def test_kept_release_that_was_altered_is_not_moved_to_again(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.served("1.1.0", current=first)
    model = world.station.store.variant_folder(first.ref(), "onnx-fp32") / "model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.chmod(0o644)
    model.write_bytes(bytes(data))
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "back")

    code, _, err = world.run("update")

    assert code == 5
    assert "model.onnx" in err
    assert world.station.in_use().channels[0].key == str(second.ref())
