# ruff: noqa: S102
# The files of the plug-in are run as Nuke runs them, by exec.

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[3] / "plugins" / "nuke"


@pytest.fixture
def shop(situation: Any, plug: Any) -> SimpleNamespace:
    """A session on generation 2: the channel serves 1.1.0, and 1.0.0 is kept for the nodes that were made with it."""
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")
    situation.put(situation.generation(1, old, stable=(old,)))
    folder = situation.put(situation.generation(2, old, new, stable=(new,)))
    found = plug(situation.environ())
    found.main.start()
    return SimpleNamespace(
        situation=situation, old=old, new=new, folder=folder, nuke=found.nuke, main=found.main, found=found, plug=plug
    )


def _file(shop: SimpleNamespace, release: Any) -> str:
    return f"{shop.situation.root}/{next(a.path for a in release.answers if a.nuke_line == '15.1')}"


def _made_with(shop: SimpleNamespace, release: Any) -> Any:
    node = shop.nuke.createNode("Inference")
    shop.main.stamp_node(node, shop.main.Release(release.model, release.version, release.digest))
    node["modelFile"].setValue(_file(shop, release))
    return node


def test_a_new_node_loads_what_is_chosen_and_is_stamped_with_it(shop: SimpleNamespace) -> None:
    node = shop.main.new_node("roto")

    assert node["modelFile"].value() == _file(shop, shop.new)
    assert [node[f"changeover_{name}"].value() for name in ("model", "version", "digest")] == [
        "acme/roto",
        "1.1.0",
        shop.new.digest,
    ]
    assert shop.main.release_of(node).key == shop.new.key
    assert shop.nuke.said[0].startswith("Changeover: Inference1: The show of this node is not known")


def test_a_new_node_of_a_known_show_is_made_without_a_word(shop: SimpleNamespace) -> None:
    shop.nuke.root().addKnob(shop.nuke.String_Knob("changeover_show", "show", "atlas"))

    assert shop.main.new_node("acme/roto") is not None
    assert shop.nuke.said == []


def test_a_model_that_nobody_chose_makes_no_node_and_one_sentence(shop: SimpleNamespace) -> None:
    node = shop.main.new_node("fog")

    assert node is None
    assert shop.nuke.said == ["Changeover: no model fog is known to generation 2 of station ws01"]
    assert shop.nuke.allNodes("Inference") == []


def test_a_script_opened_tomorrow_loads_what_its_nodes_were_made_with(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.old)
    node["modelFile"].setValue("/another/mount/m.cat")

    for call in shop.nuke.on_script_load:
        call()

    assert node["modelFile"].value() == _file(shop, shop.old)
    assert shop.nuke.said == []


def test_a_node_whose_release_is_missing_fails_by_name_and_a_person_is_told(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.situation.release("acme/roto", "0.9.0"))
    fine = _made_with(shop, shop.old)
    shop.nuke.GUI = True

    shop.main.refresh_script()

    assert node["modelFile"].value().startswith(f"{shop.situation.root}/not-available/acme/roto-0.9.0-")
    assert not Path(node["modelFile"].value()).exists()
    assert fine["modelFile"].value() == _file(shop, shop.old)
    (message,) = shop.nuke.shown
    assert message.startswith("Inference1: acme/roto@0.9.0-")
    assert message.endswith("run: changeover update")


def test_a_stamp_that_was_edited_is_never_taken_for_something_else(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.old)
    node["changeover_digest"].setValue("12 [exec rm]")

    found = shop.main.refresh_node(node)

    assert (found.path, found.error) == (None, True)
    assert node["modelFile"].value() == f"{shop.situation.root}/not-available/acme/roto.cat"


def test_a_node_that_nuke_has_locked_is_said_to_be_left_as_it_is(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.old)
    node["modelFile"].setValue("/elsewhere.cat")
    node["modelFile"].locked = True

    found = shop.main.refresh_node(node)

    assert found.unavailable == "Nuke did not let the Model File of Inference1 be set"


def test_a_callback_that_fails_is_said_and_the_script_opens(shop: SimpleNamespace) -> None:
    shop.nuke.allNodes = None

    for call in shop.nuke.on_script_load:
        call()

    assert shop.nuke.said[0].startswith("Changeover could not look at the nodes (TypeError:")


def test_a_node_from_nukes_own_cattery_menu_is_stamped_and_freed_of_the_generations_folder(
    shop: SimpleNamespace, cattery: Any
) -> None:
    entries = cattery.menu(shop.nuke.pluginPath(), 15, 1)

    node = shop.nuke.nodePaste(entries["acme_roto_1_0_0"][1])

    assert "generations" in entries["acme_roto_1_0_0"][0]
    assert node["modelFile"].value() == _file(shop, shop.old)
    assert shop.main.release_of(node).key == shop.old.key


def test_a_node_with_a_file_of_its_own_stays_untouched(shop: SimpleNamespace) -> None:
    node = shop.nuke.createNode("Inference", values={"modelFile": "/studio/own.cat"})

    assert shop.main.adopt_node(node) is None
    assert shop.main.release_of(node) is None
    assert shop.main.update_available(node) is None
    assert shop.main.refresh_script() == ()
    assert node["modelFile"].value() == "/studio/own.cat"


def test_what_the_studio_adopted_is_resolved_and_offered_to_nobody(situation: Any, plug: Any) -> None:
    old, new = situation.release("studio/roto", "0.1.0"), situation.release("studio/roto", "0.2.0")
    new = new.model_copy(update={"adopted": True})
    situation.put(situation.generation(1, old, new, stable=(new,)))
    found = plug(situation.environ())
    found.main.start()
    shop = SimpleNamespace(situation=situation, nuke=found.nuke, main=found.main)

    node = _made_with(shop, old)

    assert found.main.update_available(node) is None
    assert found.main.move([node], "update")[0].after is None
    assert node["modelFile"].value() == _file(shop, old)
    assert found.main.release_of(found.main.new_node("roto")).key == new.key


def test_moving_goes_there_and_back_and_there_again(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.old)

    assert shop.main.update_available(node).key == shop.new.key
    there = shop.main.move([node], "update")
    assert (there[0].after.key, node["modelFile"].value()) == (shop.new.key, _file(shop, shop.new))
    assert shop.main.update_available(node) is None
    back = shop.main.move([node], "back")
    assert (back[0].after.key, node["modelFile"].value()) == (shop.old.key, _file(shop, shop.old))
    again = shop.main.move([node], "back")
    assert (again[0].after.key, again[0].sentence) == (shop.new.key, "")


def test_nodes_move_to_a_version_by_name(shop: SimpleNamespace) -> None:
    nodes = [_made_with(shop, shop.new), _made_with(shop, shop.new)]

    moved = shop.main.move(nodes, "1.0.0")

    assert [m.after.version for m in moved] == ["1.0.0", "1.0.0"]
    assert {shop.main.release_of(node).key for node in nodes} == {shop.old.key}


def test_what_cannot_move_stays_and_says_why(shop: SimpleNamespace) -> None:
    node, plain = _made_with(shop, shop.new), shop.nuke.createNode("Inference")

    (nothing_newer,) = shop.main.move([node], "update")
    (never_moved,) = shop.main.move([node], "back")
    (unknown,) = shop.main.move([node], "9.9.9")
    (not_ours,) = shop.main.move([plain], "update")

    assert nothing_newer.sentence == "there is no release to move to (update)"
    assert never_moved.sentence == "there is no release to move to (back)"
    assert unknown.sentence == "there is no release to move to (9.9.9)"
    assert not_ours.sentence == "the node carries no stamp"
    assert (node["modelFile"].value(), shop.main.release_of(node).key) == (_file(shop, shop.new), shop.new.key)


def test_back_to_a_release_that_is_gone_says_so_and_stays(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.new)
    node["changeover_previous"].setValue("0.9.0 " + "a" * 64)

    (moved,) = shop.main.move([node], "back")

    assert moved.after is None
    assert "run: changeover update" in moved.sentence
    assert shop.main.release_of(node).key == shop.new.key


def test_a_pinned_node_offers_no_update_does_not_move_and_shows_both(situation: Any, plug: Any) -> None:
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")
    pins = (situation.pin(old, show="atlas"),)
    situation.put(situation.generation(1, old, new, stable=(new,), pins=pins))
    found = plug(situation.environ(SHOW="atlas"))
    shop = SimpleNamespace(situation=situation, nuke=found.nuke, main=found.main)
    node = _made_with(shop, new)

    found.main.refresh_node(node)
    text = found.main.provenance(node)

    assert found.main.update_available(node) is None
    assert (
        found.main.move([node], "1.1.0")[0].sentence
        == f"it stays on {found.main.Release(old.model, old.version, old.digest)}: pin"
    )
    assert node["modelFile"].value() == _file(shop, old)
    assert f"Inference1: acme/roto 1.1.0 ({new.digest[:12]})" in text
    assert f"loads acme/roto 1.0.0 ({old.digest[:12]}) by pin" in text


def test_a_show_that_follows_its_channel_takes_its_nodes_along(situation: Any, plug: Any) -> None:
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")
    channels = (situation.channel("show/atlas", new),)
    situation.put(situation.generation(1, old, new, stable=(old,), channels=channels, follow=("atlas",)))
    found = plug(situation.environ(SHOW="atlas"))
    node = _made_with(SimpleNamespace(situation=situation, nuke=found.nuke, main=found.main), old)

    answer = found.main.refresh_node(node)

    assert (answer.source, answer.release.key) == ("channel show/atlas", new.key)
    assert found.main.scope_of(node).show == "atlas"


def test_provenance_says_release_digest_source_station_and_how_it_runs(shop: SimpleNamespace) -> None:
    node = _made_with(shop, shop.old)

    text = shop.main.provenance(node)

    assert text.splitlines() == [
        f"Inference1: acme/roto 1.0.0 ({shop.old.digest[:12]})",
        f"sha256 {shop.old.digest}",
        f"loads acme/roto 1.0.0 ({shop.old.digest[:12]}) by stamp",
        "The show of this node is not known: what is set for single shows was not looked at.",
        "This session keeps generation 2 of station ws01 (Nuke 15.1).",
        "Nuke 15.1; useGPUIfAvailable True, halfPrecision False, tileSize None",
    ]
    assert shop.main.provenance(shop.nuke.createNode("NoOp")) == "NoOp1 was not made with Changeover."


def test_what_made_a_matte_is_found_up_the_tree_and_a_loop_ends(shop: SimpleNamespace) -> None:
    near, far, merge = _made_with(shop, shop.new), _made_with(shop, shop.old), shop.nuke.createNode("NoOp")
    merge.inputs, near.inputs, far.inputs = [near], [far], [merge]

    assert shop.main.stamped_behind(merge) == (near, far)


def test_without_a_store_everything_answers_and_nothing_is_stamped(plug: Any, tmp_path: Path) -> None:
    found = plug({"CHANGEOVER_STORE": str(tmp_path / "none")})
    node = found.nuke.createNode("Inference", values={"modelFile": "/x.cat"})
    stamped = found.nuke.createNode("Inference")
    found.main.stamp_node(stamped, found.main.Release("acme/roto", "1.0.0", "a" * 64))

    assert found.main.models() == ()
    assert tuple(found.main.scope_of(node)) == (None, None, None)
    assert found.main.adopt_node(node) is None
    assert found.main.update_available(stamped) is None
    assert found.main.move([stamped], "1.1.0")[0].after is None
    assert found.main.refresh_node(stamped).error
    assert stamped["modelFile"].value() == "/changeover/not-available/acme/roto-1.0.0-aaaaaaaaaaaa.cat"


@pytest.fixture
def menu(shop: SimpleNamespace) -> dict[str, Any]:
    """The menu of that session, as ``menu.py`` makes it."""
    exec(
        compile((PLUGIN / "menu.py").read_text(encoding="utf-8"), str(PLUGIN / "menu.py"), "exec"), {"__name__": "menu"}
    )
    items: dict[str, Any] = shop.nuke.menu("Nuke").items["Changeover"].items
    return items


def test_the_menu_says_which_model_made_a_matte(shop: SimpleNamespace, menu: dict[str, Any]) -> None:
    node, merge = _made_with(shop, shop.old), shop.nuke.createNode("NoOp")
    merge.inputs, merge.chosen = [node], True

    menu["Which model made this matte?"]()
    merge.inputs = []
    menu["Which model made this matte?"]()

    assert shop.nuke.shown[0].startswith("Inference1: acme/roto 1.0.0")
    assert shop.nuke.shown[1].startswith("No model made this. This session keeps generation 2")


def test_the_menu_offers_updates_and_moves_selected_or_all_there_and_back(
    shop: SimpleNamespace, menu: dict[str, Any]
) -> None:
    first, second = _made_with(shop, shop.old), _made_with(shop, shop.old)
    first.chosen = True

    menu["Updates available?"]()
    menu["Move selected to the update"]()
    assert [shop.main.release_of(node).version for node in (first, second)] == ["1.1.0", "1.0.0"]
    menu["Move all to the update"]()
    assert [shop.main.release_of(node).version for node in (first, second)] == ["1.1.0", "1.1.0"]
    menu["Move selected back"]()
    assert [shop.main.release_of(node).version for node in (first, second)] == ["1.0.0", "1.1.0"]

    assert shop.nuke.shown[0].splitlines() == [
        f"Inference{n}: acme/roto 1.0.0 ({shop.old.digest[:12]}) -> acme/roto 1.1.0 ({shop.new.digest[:12]})"
        for n in (1, 2)
    ]
    assert "->" in shop.nuke.shown[1]


def test_the_menu_makes_new_nodes_and_shows_the_status(shop: SimpleNamespace, menu: dict[str, Any]) -> None:
    menu["New node"].items["acme/roto"]()
    menu["Status"]()
    menu["Updates available?"]()
    menu["Move all to the update"]()

    assert len(shop.nuke.allNodes("Inference")) == 1
    assert shop.nuke.shown == [
        "This session keeps generation 2 of station ws01 (Nuke 15.1).",
        "Every node has what is chosen for it.",
        "No node to move.",
    ]


def test_a_menu_that_fails_says_so_and_nuke_goes_on(shop: SimpleNamespace) -> None:
    shop.nuke.menu = None

    exec(compile((PLUGIN / "menu.py").read_text(encoding="utf-8"), "menu.py", "exec"), {"__name__": "menu"})

    assert shop.nuke.said[-1].startswith("Changeover has no menu (TypeError:")
