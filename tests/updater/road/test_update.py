"""Changing over: what an update takes, what it leaves, and what a reader sees meanwhile."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.station import Generation


def keys_of(generation: Generation | None) -> dict[str, str]:
    assert generation is not None
    return {entry.channel: entry.key for entry in generation.channels}


def test_first_release_is_installed_smoked_and_pointed_at(world: Any) -> None:
    release = world.served("1.0.0")

    generation = world.station.in_use()

    assert generation.number == 1
    assert keys_of(generation) == {"stable": str(release.ref())}
    answers = {answer.loader: answer for answer in generation.releases[0].answers}
    assert answers["python"].path.endswith("/onnx-fp32/model.onnx")
    assert answers["python"].tiles == ("none", "1024+64")
    installed = world.station.store.root / answers["python"].path
    assert installed.stat().st_nlink == 1
    assert installed.stat().st_mode & 0o222 == 0
    assert [(event.phase, event.what) for event in world.station.events()] == [("intent", "update"), ("done", "update")]


def test_update_with_nothing_new_changes_nothing_and_exits_0(world: Any) -> None:
    world.served("1.0.0")
    before = sorted(path for path in world.station.folder.rglob("*") if path.is_file() and "trust" not in path.parts)

    out = world.ok("update")

    assert "nothing changed" in out
    after = sorted(path for path in world.station.folder.rglob("*") if path.is_file() and "trust" not in path.parts)
    assert after == before


def test_second_release_takes_the_channel_and_the_first_is_kept_for_its_stamps(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.served("1.1.0", current=first)

    generation = world.station.in_use()

    assert keys_of(generation) == {"stable": str(second.ref())}
    assert {release.key for release in generation.releases} == {str(first.ref()), str(second.ref())}


def test_chosen_release_without_verdict_for_this_class_is_not_taken_and_exits_4(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    verdict = world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    (world.site.verdicts / f"{verdict}.json").unlink()

    code, out, _ = world.run("update")

    assert code == 4
    assert "no signed verdict for this operating point" in out
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}


def test_verdict_that_no_enrolled_key_signed_counts_for_nothing(world: Any) -> None:
    from changeover_registry import signing

    release = world.publish("1.0.0")
    digest = world.accept(release)
    path = world.site.verdicts / f"{digest}.json"
    stranger = world.root / "stranger.pem"
    signing.new_key(stranger)
    payload, _ = signing.open_envelope(
        path.read_bytes(),
        "verdict",
        [signing.verdict_key(signing.load_signer(world.root / "keys" / "online" / "verdict.pem"), "td")],
        where="test",
    )
    path.unlink()
    world.site.file_verdict(signing.sign_envelope(payload, "verdict", signing.load_signer(stranger)))

    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--reason", "test")

    assert code == 4
    assert "no verdict at all" in err


def test_installed_file_with_one_byte_changed_on_the_way_exits_5_and_leaves_current(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    model = second.variants[0].file("model.onnx")
    assert model is not None
    stored = world.repository / "objects" / model.sha256[:2] / model.sha256
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(bytes(data))

    code, _, err = world.run("update")

    assert code == 5
    assert model.sha256 in err
    assert err.count("\n") == 1
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}
    assert list((world.station.store.root / "staging").iterdir()) == []


def test_smoke_that_does_not_pass_keeps_the_release_out_with_exit_3(world: Any, tmp_path: Path) -> None:
    import shutil

    import numpy as np

    first = world.served("1.0.0")
    bad = tmp_path / "folders" / "1.1.0"
    shutil.copytree(world.folders / "1.1.0", bad)
    path = bad / "onnx-fp32" / "smoke.npz"
    recorded = dict(np.load(path))
    recorded["output0"] = 1 - recorded["output0"]
    np.savez(path, **recorded)
    world.folders = tmp_path / "folders"
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")

    code, out, _ = world.run("update")

    assert code == 3
    assert "smoke" in out
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}
    assert world.station.numbers() == (1,)


def test_withdrawn_release_is_not_changed_over_to_and_exits_3(world: Any) -> None:
    from changeover_registry.repository import vendor
    from changeover_updater import vendors

    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.1.0", "leaks hair", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    code, out, _ = world.run("update")

    assert code == 3
    assert "withdrawn by the vendor: leaks hair" in out
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}


def test_release_in_use_that_is_withdrawn_stays_and_status_says_so(world: Any) -> None:
    from changeover_registry.repository import vendor
    from changeover_updater import vendors

    first = world.served("1.0.0")
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "leaks hair", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    world.ok("update")

    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}
    for command in ("status", "plan"):
        told = world.ok(command)
        assert "WITHDRAWN: leaks hair" in told
        assert told.count("go back with: changeover rollback --channel stable, or promote another release") == 1


def test_without_a_named_runtime_update_exits_4_and_current_is_untouched(world: Any) -> None:
    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    world.facts = world.facts.model_copy(update={"runtimes": ()})
    text = world.config.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("default = ")]
    world.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    code, out, _ = world.run("update")

    assert code == 4
    assert "[runtimes]" in out
    assert world.station.current() is None


def test_changed_policy_is_refused_with_5_until_it_is_signed(world: Any) -> None:
    first = world.served("1.0.0")
    path = world.site.root / "policy.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("ratio = 1.5", "ratio = 9.5"), encoding="utf-8")

    refused = world.run("update")
    world.ok("promote", "--policy", "--reason", "slower is fine")

    assert refused[0] == 5
    assert "policy.toml" in refused[2]
    assert world.run("update")[0] == 0
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}


def test_expired_choice_refuses_updates_and_keeps_what_is_installed(world: Any, long_ago: Any) -> None:
    first = world.served("1.0.0")
    _age_choice(world, long_ago)

    code, _, err = world.run("update")

    assert code == 5
    assert "expired" in err
    assert "changeover sync where the studio's keys are" in err
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}
    assert world.run("status")[0] == 0


def _age_choice(world: Any, long_ago: Any) -> None:
    """Sign the timestamp of the choice again as it would have been signed long ago."""
    from securesystemslib.signer import Signer
    from tuf.api.metadata import Metadata, Timestamp
    from tuf.api.serialization.json import JSONSerializer

    from changeover_registry.signing import load_signer

    path = world.site.choice / "metadata" / "timestamp.json"
    timestamp = Metadata[Timestamp].from_file(str(path))
    timestamp.signed.expires = long_ago
    timestamp.signed.version += 1
    signer: Signer = load_signer(world.root / "keys" / "online" / "site.pem")
    timestamp.sign(signer)
    path.chmod(0o644)
    path.write_bytes(timestamp.to_bytes(JSONSerializer(compact=True)))


def test_update_in_json_tells_the_generation_and_each_move(world: Any) -> None:
    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")

    answer = json.loads(world.ok("update", "--json"))

    assert answer["changed"] is True
    assert answer["generation"] == 1
    assert answer["plan"]["moves"][0]["wanted"] == str(release.ref())


def test_show_channel_and_pins_stand_in_the_generation(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "only atlas")
    world.ok("pin", "tiny-roto@1.0.0", "--show", "atlas", "--sequence", "aa", "--reason", "delivered")

    world.ok("update")

    generation = world.station.in_use()
    assert keys_of(generation) == {"stable": str(first.ref()), "show/atlas": str(second.ref())}
    assert [(pin.show, pin.sequence, pin.key) for pin in generation.pins] == [("atlas", "aa", str(first.ref()))]


def test_two_updates_at_once_both_end_well_and_build_one_generation(world: Any) -> None:
    import subprocess
    import sys

    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    command = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra, "update"]

    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in running]

    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert world.station.numbers() == (1,)
    assert keys_of(world.station.in_use()) == {"stable": str(release.ref())}


@pytest.mark.parametrize("missing", ["current", "generations/1/generation.json"])
def test_lost_pointer_or_generation_is_a_plain_error_or_a_fresh_start(world: Any, missing: str) -> None:
    release = world.served("1.0.0")
    path = world.station.folder / missing
    path.parent.chmod(0o755)
    path.unlink()

    code, _, err = world.run("update")

    if missing == "current":
        assert code == 0
        assert keys_of(world.station.in_use()) == {"stable": str(release.ref())}
    else:
        assert code == 3
        assert "generation 1, which is not there" in err


def test_channel_goes_back_to_a_release_it_held_without_a_new_verdict(world: Any) -> None:
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)

    out = world.ok("promote", "tiny-roto@1.0.0", "--reason", "1.1.0 chatters")
    world.ok("update")

    assert "to stable" in out
    assert keys_of(world.station.in_use()) == {"stable": str(first.ref())}


def reject_later(world: Any, release: Any, current: Any) -> None:
    """A later check of the same release against something else ended in reject."""
    from changeover_registry.records.findings import Refused

    point = world.point(release, release.variants[0].contract.tiles[0])
    refused = Refused(check="golden", rule="worse", expected="no worse", actual="worse", remedy="keep the other")
    world.now += timedelta(minutes=1)
    points = (point.model_copy(update={"findings": (refused,)}),)
    world.accept(release, current, decision="reject", reason="worse", points=points)


def test_later_reject_for_another_channel_does_not_undo_what_was_promoted(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--channel", "beta", "--reason", "test")
    reject_later(world, second, first)

    world.ok("update")

    assert keys_of(world.station.in_use()) == {"stable": str(first.ref()), "beta": str(second.ref())}


@pytest.mark.parametrize("command", [["promote"], ["pin", "--show", "atlas"]])
def test_way_back_stays_open_after_the_old_release_was_checked_against_the_new(world: Any, command: list[str]) -> None:
    first = world.served("1.0.0")
    second = world.served("1.1.0", current=first)
    reject_later(world, first, second)

    world.ok(command[0], "tiny-roto@1.0.0", *command[1:], "--reason", "1.1.0 chatters")
    world.ok("update")

    generation = world.station.in_use()
    answers = {*keys_of(generation).values(), *(pin.key for pin in generation.pins)}
    assert str(first.ref()) in answers
