"""The way to a network without internet: written to one file, carried, verified there by the same code."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.bundle_file import open_bundle

World = Any
There = Any
Files = Callable[[Path], dict[str, bytes]]


def test_a_bundle_is_a_tar_that_any_tar_lists_and_its_manifest_comes_first(bundles: Path) -> None:
    listed = subprocess.run(["tar", "-tvf", bundles / "new.tar"], capture_output=True, text=True, check=True).stdout

    lines = listed.splitlines()
    assert lines[0].endswith("bundle.json")
    assert all(line.startswith("-rw-r--r-- 0/0 ") for line in lines)
    manifest = open_bundle(bundles / "new.tar").manifest
    assert [line.split()[-1] for line in lines[2:]] == [member.path for member in manifest.members]


def test_the_same_bundle_again_changes_nothing(there: There, bundles: Path, files_of: Files) -> None:
    there.ok("import", str(bundles / "new.tar"))
    before = files_of(there.site.root)

    out = there.ok("import", str(bundles / "new.tar"))

    assert "nothing changed" in out
    assert files_of(there.site.root) == before


def test_before_the_first_bundle_sync_leaves_the_vendor_out_and_names_the_way(there: There, bundles: Path) -> None:
    code, out, err = there.run("sync")
    again = there.run("sync", "acme")
    there.ok("import", str(bundles / "old.tar"))

    assert (code, out) == (0, "")
    assert "acme comes by bundles: changeover import BUNDLE" in err
    assert again == (code, out, err)
    assert "acme: 1 release, 0 new" in there.ok("sync")


def test_who_carried_what_in_is_recorded_and_a_changed_entry_is_found(there: There, bundles: Path) -> None:
    there.ok("import", str(bundles / "old.tar"), "--reason", "ticket 12")
    events = json.loads(there.ok("log", "--imports", "--json"))

    assert [event["phase"] for event in events] == ["intent", "done"]
    assert events[-1]["why"] == "ticket 12"
    assert "acme/tiny-roto@1.0.0" in events[-1]["detail"]
    there.ok("log", "--imports", "--verify")
    entry = there.site.root / "imports" / "00000001.json"
    entry.write_bytes(entry.read_bytes().replace(b"ticket 12", b"ticket 13"))
    code, _, err = there.run("log", "--imports", "--verify")
    assert code == 5
    assert "event 2" in err


def test_an_older_bundle_is_refused_by_role_and_number(there: There, bundles: Path) -> None:
    there.ok("import", str(bundles / "new.tar"))

    code, err = there.refused("import", str(bundles / "old.tar"))

    assert code == 5
    assert "rollback" in err
    assert "timestamp.json" in err
    assert "which was seen here before" in err


def test_files_come_out_of_an_older_bundle_as_far_as_newer_metadata_names_them(there: There, bundles: Path) -> None:
    there.ok("import", str(bundles / "new.tar"))
    objects = there.site.vendor("acme").mirror / "objects"
    lost = [path for path in objects.rglob("*") if path.is_file() and path.stat().st_size > 100_000]
    for path in lost:
        path.unlink()

    there.ok("import", str(bundles / "old.tar"), "--files")

    assert any(path.is_file() for path in lost)
    assert json.loads(there.ok("import", str(bundles / "old.tar"), "--files", "--json"))["changed"] is False


def test_a_second_site_follows_the_choice_and_its_station_updates_without_a_network(
    studio: World, second: There, bundles: Path
) -> None:
    config = second.root / "host.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("# default", "default"), encoding="utf-8")
    shutil.copy(studio.station.folder / "facts.json", second.root / "store" / "stations" / "vm1" / "facts.json")

    def offline(*arguments: str) -> None:
        command = ["unshare", "-n", sys.executable, "-m", "changeover_updater", "--config", str(config)]
        done = subprocess.run([*command, "--station", "vm1", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    offline("import", str(bundles / "choice.tar"))
    offline("update")

    status = json.loads(second.ok("status", "--json"))
    assert "tiny-roto" in json.dumps(status)
    assert (second.site.root / "policy.toml").read_bytes() == studio.site.policy_bytes()
    code, err = second.refused("promote", "tiny-roto@1.0.0", "--reason", "mine")
    assert code == 2
    assert "key" in err


@pytest.mark.parametrize("words", [("plan",), ("update",), ("rollout", "list")])
def test_a_site_to_which_no_choice_was_carried_yet_says_what_brings_it(second: There, words: tuple[str, ...]) -> None:
    code, out, err = second.run(*words)

    assert (code, err.count("\n")) == (6, 1), out + err
    assert "changeover import BUNDLE" in err


def test_a_newer_choice_replaces_the_older_and_never_the_other_way(second: There, bundles: Path) -> None:
    second.ok("import", str(bundles / "choice.tar"))
    second.ok("import", str(bundles / "choice-new.tar"))

    code, err = second.refused("import", str(bundles / "choice.tar"))

    assert code == 5
    assert "rollback" in err
    assert "choice" in err
    assert json.loads(second.ok("import", str(bundles / "choice-new.tar"), "--json"))["changed"] is False
    assert "another choice" in second.ok("log", "--choice")


def test_a_choice_with_a_way_back_and_a_share_is_followed_as_it_holds(
    world: Any, follower: Callable[[Any, Path], There], tmp_path: Path
) -> None:
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)
    world.ok("rollback", "--channel", "stable", "--reason", "hair tears")
    bundle = tmp_path / "back.tar"
    world.ok("export", "--choice", str(bundle))
    site = follower(world, bundle)

    site.ok("import", str(bundle))

    told = json.loads(site.ok("log", "--choice", "--json"))
    assert "changeover.back/1" in {entry.get("schema") for entry in told}
    assert str(first.ref()) in json.dumps(json.loads(site.run("plan", "--json")[1]))


def test_a_site_follows_one_root_and_makes_no_choice_of_its_own(
    second: There, there: There, studio: World, tmp_path: Path
) -> None:
    root = str(studio.site.choice / "metadata" / "1.root.json")
    other = tmp_path / "other.json"
    other.write_bytes((there.site.choice / "metadata" / "1.root.json").read_bytes())
    places = [("init", "--site", str(s.site.root), "--store", str(s.root / "store")) for s in (second, there)]

    second.ok(*places[0], "--choice-root", root, "--nuke-json", "none")

    for site, words, given in ((second, places[0], str(other)), (there, places[1], root)):
        code, err = site.refused(*words, "--choice-root", given, "--nuke-json", "none")
        assert code == 2
        assert "--choice-root" in err


def test_a_site_with_its_own_choice_takes_the_releases_and_leaves_the_choice(
    there: There, bundles: Path, files_of: Files
) -> None:
    mine = files_of(there.site.choice)

    code, out, err = there.run("import", str(bundles / "choice.tar"))

    assert code == 0, err
    assert "tiny-roto@1.0.0" in out
    assert "makes its own" in err
    assert files_of(there.site.choice) == mine


def test_a_vendor_exports_from_its_own_folder(
    studio: World, tmp_path: Path, make_site: Callable[..., There], vendor_root: Path
) -> None:
    target = tmp_path / "own.tar"

    studio.ok("export", "tiny-roto@1.1.0", str(target), "--vendor-repository", str(studio.repository))

    there = make_site(tmp_path / "there")
    there.ok("trust", "add", "acme", str(target), "--root", str(vendor_root))
    assert "1.1.0" in there.ok("import", str(target))


def test_a_vendor_that_is_not_trusted_is_refused_with_the_remedy(
    tmp_path: Path, bundles: Path, make_site: Callable[..., There]
) -> None:
    there = make_site(tmp_path / "there")

    code, err = there.refused("import", str(bundles / "old.tar"))

    assert code == 2
    assert "changeover trust add acme" in err


@pytest.mark.parametrize(
    "arguments",
    [(), ("--receive",), ("x.tar", "--release", "ab"), ("x.tar", "--receive", "--files"), ("no-such.tar",)],
)
def test_import_says_what_it_can_be_asked(there: There, arguments: tuple[str, ...]) -> None:
    code, err = there.refused("import", *arguments)

    assert code == 2
    assert "expected" in err


@pytest.mark.parametrize(
    "arguments", [("x.tar",), ("tiny-roto@1.0.0",), ("tiny-roto@9.0.0", "x.tar"), ("no-model@1.0.0", "x.tar")]
)
def test_export_says_what_it_can_be_asked(
    studio: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    code, _, err = studio.run("export", *arguments)

    assert code == 2
    assert "expected" in err
    assert list(tmp_path.iterdir()) == []
