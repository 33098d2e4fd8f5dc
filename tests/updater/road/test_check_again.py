"""Checks that are killed, repeated, run at once, or run where nothing can be written."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_registry.records.scores import NoiseRecord
from changeover_registry.records.verdict import NoiseFloor
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")

CHECK = ("check", "tiny-roto@1.1.0", "--set", "trio")


@pytest.fixture(scope="module")
def studio(module_world: Any, add_shots: Any) -> Any:
    """A studio with three shots, the last the hardest; it serves 1.0.0 and checked 1.1.0, and 1.2.0, which is blind."""
    world = module_world
    world.without_mlflow()
    add_shots(world, "trio", levels=(1, 3, 5))
    world.served("1.0.0")
    for version in ("1.1.0", "1.2.0"):
        world.publish(version)
    found = [world.run("check", f"tiny-roto@{version}", "--set", "trio", "--json") for version in ("1.1.0", "1.2.0")]
    return SimpleNamespace(world=world, same=found[0], blind=found[1])


@pytest.fixture
def world(studio: Any) -> Iterator[Any]:
    """That studio's world; the results that were filed are there again afterwards."""
    scores = studio.world.site.scores
    shutil.copytree(scores, scores.with_name("kept"))
    yield studio.world
    shutil.rmtree(scores, ignore_errors=True)
    scores.with_name("kept").rename(scores)


def point(answer: tuple[int, str, str]) -> Any:
    return json.loads(answer[1])["points"][0]


def results(world: Any) -> dict[str, int]:
    """Every filed result with the number that its file has on the disk, which a new file would not have."""
    return {path.parent.name: path.stat().st_ino for path in world.site.scores.glob("??/*/scores.json")}


def test_hardest_shot_that_breaks_a_guard_ends_the_check_as_all_shots_would(studio: Any, world: Any) -> None:
    full = world.run("check", "tiny-roto@1.2.0", "--set", "trio", "--full", "--json")

    assert studio.blind[0] == full[0] == 3
    assert [ref["shot"] for ref in point(studio.blind)["scored"]] == ["sh2"]
    assert [ref["shot"] for ref in point(full)["scored"]] == ["sh2", "sh1", "sh0"]
    assert "2 of 3 shots were not needed" in str(point(studio.blind)["warnings"])
    assert "not needed" not in str(point(full)["warnings"])
    assert json.loads(full[1])["full"]


def test_checked_again_nothing_is_scored_and_the_numbers_are_the_same(studio: Any, world: Any) -> None:
    before = results(world)

    again = world.run(*CHECK, "--json")

    assert results(world) == before
    assert again[0] == studio.same[0] == 4
    for field in ("scored", "scores", "metrics", "noise", "golden_class", "evidence"):
        assert point(again)[field] == point(studio.same)[field]


def test_point_holds_speed_ram_first_load_noise_and_what_ran(studio: Any) -> None:
    report = point(studio.same)

    (speed,) = report["speeds"]
    assert (speed["width"], speed["height"], speed["frames"]) == (256, 144, 5)
    assert speed["candidate_us"] > 0
    assert speed["current_us"] > 0
    assert report["load_us"] > 0
    assert report["current_load_us"] > 0
    assert min(report["peak_ram_bytes"], report["current_peak_ram_bytes"]) > 2**20
    assert report["evidence"] == "direct"
    assert report["provider_ran"] == "cpu"
    assert {floor["metric"] for floor in report["noise"]} >= {"jaccard:davis2017", "mad:rvm", "dtssd:rvm"}
    assert all(float(floor["difference"]) == 0 for floor in report["noise"]), "a CPU gives equal numbers twice"


def test_person_is_shown_noise_and_warnings(studio: Any) -> None:
    blind = json.loads(studio.blind[1])["verdict"]

    out = studio.world.ok("verdict", "show", blind[:16])

    assert "noise: two runs of one model are equal here" in out
    assert "2 of 3 shots were not needed" in out


def test_check_that_is_killed_after_a_shot_goes_on_with_the_next_one(studio: Any, world: Any) -> None:
    shutil.rmtree(world.site.scores)
    child = begin(world)
    while child.poll() is None and not results(world):
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    first = results(world)

    again = world.run(*CHECK, "--json")

    assert child.returncode == -signal.SIGKILL
    assert 1 <= len(first) < 3
    assert first.items() <= results(world).items()
    assert point(again)["scored"] == point(studio.same)["scored"]
    assert point(again)["scores"] == point(studio.same)["scores"]


def begin(world: Any) -> "subprocess.Popen[bytes]":
    """A check in a process of its own."""
    program = [str(Path(sys.executable).with_name("changeover")), "--config", str(world.config), *world.extra, *CHECK]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_two_checks_at_once_name_the_same_results(studio: Any, world: Any) -> None:
    shutil.rmtree(world.site.scores)
    before = set(world.site.verdicts.iterdir())
    other = begin(world)

    code, _, err = world.run(*CHECK)

    assert other.wait() == code == 4, err
    digests = [path.stem for path in set(world.site.verdicts.iterdir()) - before]
    scored = [point(world.run("verdict", "show", digest, "--json"))["scored"] for digest in digests]
    assert len(scored) == 2
    assert scored[0] == scored[1] == point(studio.same)["scored"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_site_that_cannot_be_written_is_9_before_anything_is_scored(world: Any) -> None:
    site = str(world.site.root)
    if subprocess.run(["mount", "--bind", site, site], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", site], check=True)
        code, out, err = world.run(*CHECK)
    finally:
        subprocess.run(["umount", "-l", site], check=True)

    assert (code, out, err.count("\n")) == (9, "", 1), err
    assert "Read-only file system" in err
    assert site in err


@pytest.mark.parametrize("which", ["owner", "reader", "stranger", "site"])
def test_set_of_a_show_judges_for_its_owner_and_readers_alone(world: Any, which: str) -> None:
    name = f"of-{which}"
    channel = {"owner": "show/atlas", "reader": "show/borealis", "stranger": "show/comet", "site": "stable"}[which]
    world.ok("golden", "set", "create", name, "--show", "atlas", "--reader", "borealis")

    code, out, err = world.run("check", "tiny-roto@1.1.0", "--set", name, "--channel", channel, "--json")

    if which in {"owner", "reader"}:
        assert code == 4
        assert "no approved shot" in json.loads(out)["reason"]
    else:
        assert (code, out, err.count("\n")) == (3, "", 1), err
        assert "atlas" in err


def test_policy_whose_margin_is_finer_than_the_noise_is_not_signed(world: Any) -> None:
    (path,) = (world.site.scores / "noise").glob("*.json")
    known = NoiseRecord.from_bytes(path.read_bytes(), where="test")
    noisy = NoiseFloor(metric="mad:rvm", difference="0.002")
    path.write_bytes(known.model_copy(update={"floors": (noisy,)}).to_bytes())
    before = sorted((world.site.choice / "metadata").iterdir())

    code, out, err = world.run("promote", "--policy", "--reason", "test")

    assert (code, out, err.count("\n")) == (3, "", 1), err
    assert "margin_mad" in err
    assert "0.002" in err
    assert "smallest margin 0.010" in err
    assert sorted((world.site.choice / "metadata").iterdir()) == before


def test_policy_of_limits_only_is_what_the_verdict_says_and_its_results_do_not_outlive_it(world: Any) -> None:
    policy = world.site.root / "policy.toml"
    strict = policy.read_text(encoding="utf-8")
    shutil.rmtree(world.site.scores)
    seen = []
    for text in (strict.replace('sandbox = "required"', 'sandbox = "limits-only"'), strict):
        policy.write_text(text, encoding="utf-8")
        world.ok("promote", "--policy", "--reason", "test")
        verdict = json.loads(world.run("check", "tiny-roto@1.1.0", "--set", "trio", "--json")[1])
        filed = [json.loads(path.read_bytes())["sandbox"] for path in world.site.scores.glob("??/*/scores.json")]
        seen.append((verdict["sandbox"], set(filed)))

    assert seen == [("limits-only", {"limits-only"}), (available().name, {available().name})]


def test_margin_that_the_noise_outgrew_after_it_was_signed_decides_nothing(world: Any) -> None:
    (path,) = (world.site.scores / "noise").glob("*.json")
    known = NoiseRecord.from_bytes(path.read_bytes(), where="test")
    noisy = NoiseFloor(metric="mad:rvm", difference="0.002")
    path.write_bytes(known.model_copy(update={"floors": (noisy,)}).to_bytes())

    code, out, _ = world.run(*CHECK, "--json")

    assert code == 4
    assert "below the noise" in json.loads(out)["reason"]


def test_somebody_watching_sees_shot_frame_and_time_left(world: Any) -> None:
    shutil.rmtree(world.site.scores)
    read, write = os.openpty()
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(lambda: _read(read), b"")))
    reader.start()
    program = [str(Path(sys.executable).with_name("changeover")), "--config", str(world.config), *world.extra, *CHECK]
    subprocess.run(program, stdout=subprocess.DEVNULL, stderr=write, check=False)
    os.close(write)
    reader.join()
    os.close(read)

    said = b"".join(lines).decode(errors="replace")
    assert "onnx-fp32/none/cpu: shot 1 of 3 (sh2), frame 1 of 3, 0:0" in said
    assert "shot 3 of 3 (sh0), frame 3 of 3" in said


def _read(handle: int) -> bytes:
    """What a terminal got; nothing once nobody holds its other side."""
    try:
        return os.read(handle, 4096)
    except OSError:
        return b""


def test_only_signed_verdicts_that_accept_a_candidate_are_what_was_approved(studio: Any, world: Any) -> None:
    from changeover_updater.studio import read_accepted, read_studio

    known = read_studio(world.site, world.station)
    release = known.find("tiny-roto@1.1.0")
    digest = world.accept(release)
    kept = set(world.site.verdicts.iterdir())
    envelope = (world.site.verdicts / f"{digest}.json").read_bytes()
    forged = envelope.replace(b'"sig":"', b'"sig":"A', 1)
    (world.site.verdicts / f"{hashlib.sha256(forged).hexdigest()}.json").write_bytes(forged)
    (world.site.verdicts / f"{'0' * 64}.json").write_bytes(envelope)

    found = read_accepted(world.site, known, frozenset({release.digest()}))

    assert [filed.digest for filed in found] == [digest]
    assert forged != envelope
    assert read_accepted(world.site, known, frozenset()) == ()
    assert read_accepted(world.site, known, frozenset({known.find("tiny-roto@1.2.0").digest()})) == ()
    for path in (*(set(world.site.verdicts.iterdir()) - kept), world.site.verdicts / f"{digest}.json"):
        path.unlink()


def test_shot_that_was_retired_after_a_verdict_is_told_in_the_next(studio: Any, world: Any) -> None:
    earlier = set(world.site.verdicts.iterdir())
    world.run("check", "tiny-roto@1.0.0", "--set", "trio")
    of_current = set(world.site.verdicts.iterdir()) - earlier
    world.ok("golden", "retire", "trio", "sh2", "--reason", "too hard")

    told = str(point(world.run("check", "tiny-roto@1.2.0", "--set", "trio", "--json"))["warnings"])

    assert "on 1.2.0 (reject) the set has changed: no longer scored: sh2" in told
    assert "no score approved before to compare with, so the ratchet says nothing" in told
    assert "the set has changed" not in str(point(studio.blind)["warnings"])
    for path in set(world.site.verdicts.iterdir()) - of_current:
        path.unlink()

    told = str(point(world.run("check", "tiny-roto@1.2.0", "--set", "trio", "--json"))["warnings"])

    assert "on 1.0.0 (inconclusive) the set has changed: no longer scored: sh2" in told
