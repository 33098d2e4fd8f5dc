import json
import shutil
from datetime import timedelta
from typing import Any

import pytest

from changeover_updater import collect, shows
from changeover_updater.install import install_variants
from changeover_updater.studio import read_choices


def needs(world: Any) -> dict[str, tuple[str, ...]]:
    return dict(shows.read_needs(world.site, world.station))


def gc_plan(world: Any, days: float) -> Any:
    request = collect.Request(who="td", why="space", now=world.now + timedelta(days=days))
    return collect.preview(world.site, world.station, request, lambda _: None)


@pytest.fixture
def atlas(world: Any) -> Any:
    """Show atlas was given 1.0.0, then 1.1.0; both are in the store."""
    first = world.publish("1.0.0")
    world.accept(first)
    world.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "start")
    world.ok("update")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "sharper")
    install_variants(world.station.store, world.site.vendor("acme"), second, second.variants, lambda *_: None)
    return world


def test_what_a_show_was_ever_given_stays_until_it_is_closed(atlas: Any) -> None:
    told = needs(atlas)

    assert len(told) == 2
    assert all("show atlas was given it and is not closed" in why for why in told.values())
    assert [why[0] for key, why in told.items() if "@1.1.0-" in key] == ["channel show/atlas"]
    assert gc_plan(atlas, 400).releases == ()


def test_closing_a_show_writes_its_archive_and_lets_go(atlas: Any) -> None:
    answer = json.loads(atlas.ok("show", "close", "atlas", "--reason", "delivered", "--json"))

    archive = atlas.site.root / answer["archive"]
    assert archive.stat().st_size == answer["size"]
    assert len(answer["releases"]) == 2
    assert needs(atlas) == {}
    (closed,) = [choice for choice in read_choices(atlas.site, atlas.station) if choice.scope == "shows/atlas"]
    assert (closed.channels, closed.entry.why) == ((), "delivered")
    (told,) = json.loads(atlas.ok("show", "list", "--json"))
    assert (told["show"], told["open"], told["closed"]["why"]) == ("atlas", False, "delivered")
    assert "closed" in atlas.ok("show", "list")


def test_the_plan_after_a_close_says_what_changes_and_not_that_nothing_was_ever_chosen(atlas: Any) -> None:
    atlas.ok("show", "close", "atlas", "--reason", "delivered")

    plan, update = atlas.ok("plan"), atlas.ok("update")

    assert "change to generation 2: the choice or the policy changed" in plan
    assert "changed over to generation 2" in update
    assert "chosen nothing yet" not in plan + update + atlas.ok("plan")


def test_an_archive_is_a_copy_that_can_be_shown_and_a_damaged_one_is_none(atlas: Any) -> None:
    atlas.ok("show", "close", "atlas", "--reason", "delivered")
    (archive,) = (atlas.site.root / "shows" / "atlas").glob("archive-*")
    atlas.repository.rename(atlas.repository.with_name("gone"))

    assert [fact.key[:20] for fact in gc_plan(atlas, 400).releases] == ["acme/tiny-roto@1.1.0"]

    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    plan = gc_plan(atlas, 400)
    assert plan.releases == ()
    (why,) = [kept.why for kept in plan.kept if "@1.1.0-" in kept.what]
    assert why[0].startswith("no other copy could be shown")


def test_an_archive_holds_all_that_its_releases_need(atlas: Any) -> None:
    """What is left of a show is taken by import, verified, and brings files that no vendor serves any more."""
    atlas.ok("show", "close", "atlas", "--reason", "delivered")
    (archive,) = (atlas.site.root / "shows" / "atlas").glob("archive-*")
    atlas.repository.rename(atlas.repository.with_name("gone"))
    atlas.without_mlflow()

    told = atlas.ok("import", str(archive), "--json")

    assert all(f'"acme/tiny-roto@{version}-' in told for version in ("1.0.0", "1.1.0"))
    shutil.rmtree(next((atlas.root / "store" / "releases").glob("*/*/1.0.0-*")))
    atlas.ok("update")
    assert len(list((atlas.root / "store" / "releases").glob("*/*/1.0.0-*/onnx-fp32/model.onnx"))) == 1


def test_a_show_that_is_given_something_again_is_open_again(atlas: Any) -> None:
    atlas.ok("show", "close", "atlas", "--reason", "delivered")
    atlas.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "a retake")

    told = needs(atlas)

    assert "channel show/atlas" in next(why for key, why in told.items() if "@1.0.0-" in key)
    (listed,) = json.loads(atlas.ok("show", "list", "--json"))
    assert listed["open"]
    atlas.ok("show", "close", "atlas", "--reason", "delivered again")
    assert needs(atlas) == {}
    assert len(list((atlas.site.root / "shows" / "atlas").glob("archive-*"))) == 2


def test_a_show_that_cannot_be_closed_is_left_as_it_is(atlas: Any) -> None:
    code, _, err = atlas.run("show", "close", "nowhere", "--reason", "x")
    assert (code, "expected an open show that something was promoted to (atlas)" in err) == (2, True)
    before = needs(atlas)
    atlas.repository.rename(atlas.repository.with_name("gone"))
    folder = next((atlas.root / "store" / "releases").glob("*/*/1.1.0-*"))
    folder.rename(atlas.root / "taken")

    code, _, err = atlas.run("show", "close", "atlas", "--reason", "delivered")

    assert code == 6, err
    assert needs(atlas) == before
    assert not list((atlas.site.root / "shows" / "atlas").glob("*.json"))


def test_whoever_has_no_key_closes_nothing(atlas: Any) -> None:
    (atlas.root / "keys" / "online" / "promoter.pem").rename(atlas.root / "hidden.pem")

    code, _, err = atlas.run("show", "close", "atlas", "--reason", "delivered")

    assert (code, "promoter" in err) == (2, True)
    assert not (atlas.site.root / "shows").exists()
