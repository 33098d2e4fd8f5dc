"""A studio adopts the .cat files that it runs: real keys, a real repository, a real station."""

import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from changeover_registry.clock import format_time
from changeover_registry.repository import vendor as repository
from changeover_updater import vendors
from changeover_updater.cats import look_for
from changeover_updater.expiries import read_expiries
from changeover_updater.own_vendor import home_of
from changeover_updater.studio import choice_log
from changeover_updater.vendor_home import make_home, open_home

WHY = ("--reason", "in use since 2025")


@pytest.fixture
def studio(make_world: Callable[..., Any]) -> Any:
    """A studio with Nuke 15.1, and no MLflow within reach."""
    world = make_world(nuke="15.1v3")
    world.without_mlflow()
    return world


def cat(world: Any, name: str = "old/Hair Matte.cat", content: bytes = b"\x00any bytes\xff" * 999) -> Path:
    path = Path(world.root, "plugins", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def state(world: Any) -> dict[str, str]:
    """The digest of every file but locks, what readers saw, and the dates of the choice, which any command renews."""
    folders = [world.site.root, world.root / "store", world.root / "vendors"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "lock" not in path.name]
    dates = ("snapshot.json", "timestamp.json")
    seen = world.station.folder / "trust"
    kept = [path for path in files if not path.is_relative_to(seen)]
    kept = [path for path in kept if "choice" not in path.parts or not path.name.endswith(dates)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def answer(world: Any, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.ok("adopt", *arguments, *WHY, "--json"))
    return found


def chosen(world: Any) -> list[str]:
    return [entry.entry.what for entry in choice_log(world.site)]


def home(world: Any) -> Path:
    return home_of(world.config, "studio")


def test_adopted_file_is_what_the_show_has_byte_for_byte_on_its_stations(studio: Any) -> None:
    path = cat(studio)

    found = answer(studio, str(path), "--show", "atlas")
    studio.ok("update")

    (release,) = found["releases"]
    assert release["release"].startswith("studio/hair-matte@0.1.0-")
    assert (release["source"], release["new"]) == (str(path), True)
    assert {"licences", "contract", "requires.torch_line"} <= set(release["unknown"])
    generation = studio.station.in_use()
    assert [(c.channel, c.key) for c in generation.channels] == [("show/atlas", release["release"])]
    (served,) = [a for r in generation.releases for a in r.answers if a.nuke_line == "15.1"]
    assert (studio.root / "store" / served.path).read_bytes() == path.read_bytes()
    assert "adopted: nobody judged it" in studio.ok("status")


def test_adopting_again_changes_nothing_wherever_the_file_lies_by_then(studio: Any) -> None:
    path = cat(studio)
    first = answer(studio, str(path), "--show", "atlas")
    before = state(studio)

    again = answer(studio, str(path), "--show", "atlas")
    moved = answer(studio, str(cat(studio, "new/renamed.cat", path.read_bytes())), "--show", "atlas")

    assert [r["release"] for r in again["releases"]] == [r["release"] for r in moved["releases"]]
    assert again["releases"][0]["release"] == first["releases"][0]["release"]
    assert [r["new"] for r in (*again["releases"], *again["shows"], *moved["releases"], *moved["shows"])] == [False] * 4
    assert sorted(state(studio).items() ^ before.items()) == []


def test_another_file_of_that_name_is_the_next_release_and_no_upgrade_for_anybody(studio: Any) -> None:
    answer(studio, str(cat(studio)), "--show", "atlas", "--show", "borea")

    found = answer(studio, str(cat(studio, content=b"retrained")), "--show", "atlas")
    studio.ok("update")

    assert found["releases"][0]["release"].startswith("studio/hair-matte@0.2.0-")
    versions = {c.channel: c.key.partition("@")[2][:5] for c in studio.station.in_use().channels}
    assert versions == {"show/atlas": "0.2.0", "show/borea": "0.1.0"}
    assert all(release.adopted for release in studio.station.in_use().releases)


def test_whole_cattery_becomes_releases_and_what_belongs_to_no_release_is_named(studio: Any) -> None:
    cat(studio, "Cattery/Edge/model.cat", b"edge")
    cat(studio, "Cattery/Hair/model.cat", b"hair")
    cat(studio, "Cattery/Hair/copy.cat", b"edge")
    cat(studio, "Cattery/Hair/Hair.gizmo", b"Group {}")
    cat(studio, "elsewhere/other.cat", b"other")
    (studio.root / "plugins/Cattery/linked").symlink_to(studio.root / "plugins/elsewhere")
    edge = studio.root / "plugins/Cattery/Edge/cat.json"
    edge.write_text('{"minimum_nuke_version_required": 15.1, "description": "cuts edges", "cats": []}')
    (studio.root / "plugins/Cattery/Hair/cat.json").write_text('{"minimum_nuke_version_required": 15.')

    code, out, err = studio.run("adopt", str(studio.root / "plugins" / "Cattery"), *WHY)

    assert code == 0, err
    assert "known here and chosen for nobody" in out
    assert "Hair.gizmo" in err
    found = {release.model: release for release in read(studio)}
    assert sorted(found) == ["studio/edge-model", "studio/hair-model"]
    assert found["studio/edge-model"].variants[0].requires.torch_line == "2.1.1"
    assert found["studio/edge-model"].summary == "cuts edges"
    assert found["studio/hair-model"].variants[0].requires.torch_line is None
    assert "requires.torch_line" not in found["studio/edge-model"].adopted.unknown


def read(world: Any) -> tuple[Any, ...]:
    from changeover_updater.studio import read_studio

    known = read_studio(world.site, world.station)
    return tuple(release for vendor in known.vendors if vendor.entry.local for release in vendor.releases)


def refused(world: Any, *arguments: str) -> tuple[int, str]:
    """Run a command that must be refused in one line and leave everything as it was."""
    before, choices = state(world), chosen(world)
    code, out, err = world.run("adopt", *arguments, *WHY)
    assert sorted(state(world).items() ^ before.items()) == []
    assert (out, chosen(world)) == ("", choices)
    assert err.strip().count("\n") == 0, err
    return code, err


def test_what_is_no_cat_is_refused_and_nothing_is_made(studio: Any) -> None:
    (studio.root / "empty").mkdir()
    pickled = cat(studio, "x/pickled.cat", __import__("pickle").dumps({"a": [1, 2]}, protocol=2))

    assert refused(studio, str(studio.root / "nowhere.cat"))[0] == 2
    assert refused(studio, str(studio.root / "empty"))[0] == 2
    assert refused(studio, str(cat(studio, "x/model.onnx", b"onnx")))[0] == 2
    assert refused(studio, str(cat(studio, "y/empty.cat", b"")))[0] == 3
    code, line = refused(studio, str(pickled))
    assert code == 3
    assert "pickle" in line
    assert not home(studio).exists()


def test_what_somebody_judged_is_not_replaced_in_a_show_nor_behind_its_back(studio: Any) -> None:
    answer(studio, str(cat(studio)), "--show", "atlas")
    release = real(studio, "studio/hair-matte", "1.0.0")
    for channel in ("show/borea", "stable"):
        studio.ok("promote", "hair-matte@1.0.0", "--channel", channel, "--reason", "judged")
        other = str(cat(studio, "z/hair.cat", channel.encode()))

        show = "cygnus" if channel == "stable" else "borea"
        code, line = refused(studio, other, "--as", "hair-matte", "--show", show)

        assert code == 3
        assert str(release.ref()) in line


def real(world: Any, model: str, version: str) -> Any:
    """A release that the studio made itself, with a record of its own, overridden so that it may be promoted."""
    from changeover_registry.records.release import Release

    (old,) = [release for release in read(world) if release.model == model][-1:]
    made = Release.model_validate(old.model_dump() | {"version": version, "adopted": None})
    own = open_home(home(world))
    (file,) = made.variants[0].files
    source = own.repository / "objects" / file.sha256[:2] / file.sha256
    repository.publish(own.repository, own.keys, made.to_bytes(), {file.sha256: source}, world.now)
    vendors.sync_vendor(world.site.vendor("studio"))
    checks = [
        word for check in ("licence", "hardware", "vram", "speed", "golden", "smoke") for word in ("--check", check)
    ]
    world.ok("override", "add", f"{model}@{version}", *checks, "--until", "5d", "--reason", "a test")
    world.ok("override", "add", f"{model}@{version}", *checks, "--until", "5d", "--reason", "a test", "--show", "borea")
    return made


def test_names_that_mislead_are_refused(studio: Any) -> None:
    path = str(cat(studio))
    answer(studio, path)

    assert refused(studio, path, "--as", "beard")[0] == 3
    assert refused(studio, str(cat(studio, "a/b.cat", b"b")), "--as", "acme/tiny-roto")[0] == 2
    assert refused(studio, str(cat(studio, "a/b.cat", b"b")), "--show", "No Show")[0] == 2
    code, line = refused(studio, path, "--show", "atlas", "--baseline-of", "persn-roto")
    assert code == 2
    assert "persn-roto" in line
    assert answer(studio, path, "--as", "studio/hair-matte")["releases"][0]["new"] is False


def test_only_a_verdict_against_it_lets_the_show_have_the_candidate(studio: Any) -> None:
    candidate = studio.publish("1.0.0")
    answer(studio, str(cat(studio)), "--show", "atlas", "--baseline-of", "tiny-roto")
    adopted = read(studio)[0]

    studio.accept(candidate)
    code, _, line = studio.run("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "try")
    assert code == 4
    assert f"{adopted.ref()} is in use now" in line
    assert not any("promote" in what for what in chosen(studio) if "tiny-roto" in what)

    later = format_time(studio.now + timedelta(seconds=1))
    studio.accept(candidate, current=adopted, made_at=later)
    studio.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "it is better")
    assert sum("tiny-roto" in what for what in chosen(studio) if what.startswith("promote")) == 1


def test_candidate_is_compared_with_it_and_what_cannot_be_scored_is_said(studio: Any, add_shots: Any) -> None:
    from changeover_registry.records.findings import NotRun
    from changeover_updater.studio import read_studio, read_verdicts

    add_shots(studio, "hero", (1,))
    studio.publish("1.0.0")
    answer(studio, str(cat(studio)), "--show", "atlas", "--baseline-of", "tiny-roto")

    code, _, _ = studio.run("check", "tiny-roto@1.0.0", "--channel", "show/atlas", "--set", "hero")

    (filed,) = read_verdicts(studio.site, read_studio(studio.site, studio.station))
    assert (code, filed.verdict.decision) == (4, "inconclusive")
    assert filed.verdict.current == read(studio)[0].ref()
    golden = [f for point in filed.verdict.points for f in point.findings if f.check == "golden"]
    assert golden
    assert all(isinstance(f, NotRun) and "nuke-cat" in f.why for f in golden)
    code, _, line = studio.run("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "try")
    assert (code, "open:" in line) == (4, True)


def test_adopted_release_is_promoted_by_nobody_and_gone_back_to_by_anybody(studio: Any) -> None:
    answer(studio, str(cat(studio)), "--show", "atlas")
    answer(studio, str(cat(studio, content=b"second")), "--show", "atlas")
    before = chosen(studio)

    for channel in ("stable", "show/borea"):
        code, _, line = studio.run("promote", "hair-matte@0.1.0", "--channel", channel, "--reason", "upgrade")
        assert code == 3
        assert "changeover adopt FILE --show SHOW" in line
    assert chosen(studio) == before
    studio.ok("rollback", "--channel", "show/atlas", "--reason", "the new one flickers")
    studio.ok("update")
    assert [c.key.partition("@")[2][:5] for c in studio.station.in_use().channels] == ["0.1.0"]


def test_what_was_withdrawn_is_not_adopted_again(studio: Any) -> None:
    path = str(cat(studio))
    answer(studio, path)
    studio.ok("vendor", "withdraw", "hair-matte@0.1.0", "--why", "not ours", "--home", str(home(studio)))
    studio.ok("sync")

    code, line = refused(studio, path, "--show", "atlas")

    assert code == 5
    assert "not ours" in line


def test_show_whose_client_must_agree_has_it_once_the_client_did(studio: Any) -> None:
    policy, path = studio.site.root / "policy.toml", str(cat(studio))
    policy.write_text(policy.read_text() + "\n[shows.atlas]\nclient_approval = true\n")
    studio.ok("promote", "--policy", "--reason", "the client asks")

    code, line = refused(studio, path, "--show", "atlas")
    assert (code, "changeover show approve atlas" in line) == (3, True)

    answer(studio, path)
    agreed = ("--by", "Jane of the client", "--evidence", "mail of 3 March", "--reason", "they use it")
    told = studio.ok("show", "approve", "atlas", "hair-matte@0.1.0", *agreed)
    assert f"changeover adopt {shlex.quote(path)} --show atlas --reason" in told
    answer(studio, path, "--show", "atlas")
    studio.ok("update")
    assert studio.station.in_use().channels[0].channel == "show/atlas"


def test_another_site_of_the_studio_takes_what_was_adopted_and_a_stranger_does_not(
    studio: Any, world_at: Callable[[Path], Any]
) -> None:
    answer(studio, str(cat(studio)), "--show", "atlas")
    root = home(studio) / "keys" / "online" / "root.json"
    place = str(studio.site.root / "local" / "studio")
    for name, flags in (("own", ["--own"]), ("stranger", ["--allow-executable"])):
        other = world_at(studio.root / name)
        other.without_mlflow()
        other.ok("trust", "add", "studio", place, "--root", str(root), *flags)
        other.ok("sync")

        code, _, line = other.run("check", "hair-matte@0.1.0")

        refusal = "adopted elsewhere" in line + other.run("verdict", "list")[1]
        assert (code, refusal) == ((4, False) if name == "own" else (3, True))


def test_run_that_was_killed_before_the_site_knew_is_finished_by_the_next(studio: Any) -> None:
    path, kept = str(cat(studio)), studio.root / "kept"
    answer(studio, str(cat(studio, "b/first.cat", b"first")))
    shutil.copytree(studio.site.root / "trust", kept)
    answer(studio, path)
    shutil.rmtree(studio.site.root / "trust")
    kept.rename(studio.site.root / "trust")
    shutil.rmtree(studio.station.folder / "trust" / "vendors")
    assert [release.model for release in read(studio)] == ["studio/first"]

    found = answer(studio, path, "--show", "atlas")

    assert [(r["release"].partition("-")[0], r["new"]) for r in found["releases"]] == [("studio/hair", False)]
    assert sorted(release.version for release in read(studio)) == ["0.1.0", "0.1.0"]


def test_run_that_was_killed_before_the_trust_is_finished_by_the_next(studio: Any) -> None:
    make_home(
        home(studio), "studio", "", studio.now, repository=studio.site.root / "local" / "studio", ask_mlflow=False
    )
    (home(studio) / "vendor.toml").rename(home(studio) / ".vendor.toml.40bda0c05f76.tmp")

    assert answer(studio, str(cat(studio)), "--show", "atlas")["releases"][0]["new"] is True


def test_host_without_the_keys_chooses_what_is_known_and_adopts_nothing_new(studio: Any) -> None:
    path = str(cat(studio))
    answer(studio, path)
    home(studio).rename(studio.root / "on-another-host")

    code, line = refused(studio, str(cat(studio, "b/new.cat", b"new")), "--show", "atlas")

    assert code == 2
    assert "made on" in line
    assert answer(studio, path, "--show", "atlas")["shows"][0]["new"] is True


def test_site_that_a_host_has_at_another_place_serves_it_from_there(studio: Any) -> None:
    answer(studio, str(cat(studio)), "--show", "atlas")
    elsewhere = studio.root / "mounted"
    studio.site.root.rename(elsewhere)
    text = studio.config.read_text().replace(str(studio.site.root), str(elsewhere))
    studio.config.write_text(text)
    shutil.rmtree(studio.root / "store" / "releases", ignore_errors=True)

    studio.ok("update")

    assert studio.station.in_use().channels[0].model == "studio/hair-matte"


def test_two_promoters_must_agree_that_a_show_has_it(studio: Any) -> None:
    keys = studio.root / "bobs"
    studio.publish("1.0.0")
    studio.ok("keys", "new", "bob", "--out", str(keys))
    answer(studio, str(cat(studio, "b/first.cat", b"first")), "--show", "atlas")
    enrol = ("keys", "enrol", str(keys / "bob.pub"), "--scope", "shows/atlas", "--role", "promoter", "--owner", "bob")
    studio.ok(*enrol, "--threshold", "2", "--with", str(keys / "bob.pem"), "--reason", "two of us")

    found = answer(studio, str(cat(studio)), "--show", "atlas", "--baseline-of", "tiny-roto")

    waits = found["shows"][0]["waits"]
    assert waits
    studio.ok("update")
    assert [c.model for c in studio.station.in_use().channels] == ["studio/first"]
    text = studio.config.read_text().replace(
        str(studio.root / "keys" / "online" / "promoter.pem"), str(keys / "bob.pem")
    )
    studio.config.write_text(text)
    studio.ok("approve", waits, "--reason", "it is what they use")
    studio.ok("update")
    assert sorted(c.model for c in studio.station.in_use().channels) == ["studio/first", "studio/hair-matte"]


def test_dates_of_the_studios_own_vendor_are_signed_again_by_sync(studio: Any) -> None:
    folder = studio.site.root / "local" / "studio"
    past = studio.now - timedelta(days=20)
    made = make_home(home(studio), "studio", "", past, repository=folder, ask_mlflow=False)
    vendors.trust_own(studio.site, "studio", str(folder), made.root.read_bytes(), who="td", now=past)

    def expires() -> Any:
        return Metadata.from_bytes((folder / "metadata" / "timestamp.json").read_bytes()).signed.expires

    before = expires()
    vendors.sync_vendor(studio.site.vendor("studio"))
    (studio.station.folder / "trust" / "vendors" / "studio").mkdir(parents=True)
    (soon,) = [
        e for e in read_expiries(studio.station, studio.site.root) if (e.owner, e.role) == ("studio", "timestamp")
    ]
    assert "run changeover sync on the host that has the keys of studio" in soon.remedy()
    studio.ok("sync")
    after = expires()
    studio.ok("sync")

    assert after > before
    assert expires() == after


@pytest.mark.parametrize("minimum", ["1" + "0" * 400, "1e308", "-1", "NaN", "1e999"])
def test_package_of_an_absurd_nuke_says_nothing_of_its_torch(tmp_path: Path, minimum: str) -> None:
    (tmp_path / "hair.cat").write_bytes(b"any bytes")
    (tmp_path / "cat.json").write_text(f'{{"minimum_nuke_version_required": {minimum}}}', encoding="utf-8")

    ((file,), _) = look_for(tmp_path)

    assert file.found.torch_line is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_package_that_may_not_be_read_is_told_of_and_not_left_out() -> None:
    with tempfile.TemporaryDirectory() as place:
        closed = Path(place, "packages", "closed")
        closed.mkdir(parents=True)
        (closed.parent / "open.cat").write_bytes(b"any bytes")
        for folder, mode in ((closed, 0), (closed.parent, 0o755), (closed.parents[1], 0o755)):
            folder.chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="closed"):
                look_for(closed.parent)
        finally:
            os.seteuid(0)
