import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.station import (
    Answer,
    Generation,
    GenerationChannel,
    GenerationPin,
    GenerationRelease,
)

MODELS = ("acme/roto", "acme/key", "zeta/roto")
SHOWS, SEQUENCES, SHOTS = ("atlas", "borea"), ("010", "020"), ("0010", "0020")
LINES = ("15.0", "15.1")
ROOT = "/store"


def _release(model: str, number: int, kinds: tuple[str, ...]) -> GenerationRelease:
    identity = f"{MODELS.index(model)}{number}".ljust(64, "a")
    answers = [
        Answer(loader="nuke-inference", nuke_line=line, path=f"releases/{model}/{number}/m.cat")
        if kind == "cat"
        else Answer(loader="nuke-inference", nuke_line=line, path=f"releases/{model}/{number}/m.onnx")
        if kind == "onnx"
        else Answer(loader="nuke-inference", nuke_line=line, unavailable=f"not available in Nuke {line}: no")
        for line, kind in zip(LINES, kinds, strict=True)
        if kind != "absent"
    ]
    return GenerationRelease(
        key=f"{model}@{number}.0.0-{identity[:12]}",
        model=model,
        version=f"{number}.0.0",
        digest=identity,
        answers=tuple(answers),
    )


kinds = st.sampled_from(["cat", "cat", "cat", "onnx", "refused", "absent"])
universe = st.fixed_dictionaries({(model, n): st.tuples(kinds, kinds) for model in MODELS for n in (1, 2, 3)})
optional_show = st.sampled_from([None, *SHOWS])


@st.composite
def situations(draw: Any) -> tuple[Generation, dict[str, Any]]:
    every = [_release(model, n, k) for (model, n), k in draw(universe).items()]
    present = [release for release in every if draw(st.sampled_from([True, True, True, False]))]
    some = st.sampled_from(every)
    pins = draw(
        st.lists(
            st.builds(
                lambda r, show, sequence, shot: GenerationPin(
                    model=r.model, key=r.key, show=show, sequence=sequence, shot=shot
                ),
                some,
                optional_show,
                st.sampled_from([None, *SEQUENCES]),
                st.sampled_from([None, *SHOTS]),
            ),
            max_size=5,
            unique_by=lambda pin: (pin.model, pin.show, pin.sequence, pin.shot),
        )
    )
    channels = draw(
        st.lists(
            st.builds(
                lambda name, r: GenerationChannel(channel=name, model=r.model, key=r.key),
                st.sampled_from(["stable", "beta", "show/atlas", "show/borea"]),
                some,
            ),
            max_size=6,
            unique_by=lambda channel: (channel.channel, channel.model),
        )
    )
    generation = Generation(
        number=1,
        station="ws01",
        made_at="2026-11-22T13:45:00Z",
        why="a test",
        site="/site",
        channel=draw(st.sampled_from(["stable", "beta"])),
        follow=draw(st.sampled_from([(), ("atlas",)])),
        nuke_lines=LINES,
        releases=tuple(present),
        channels=tuple(channels),
        pins=tuple(pins),
    )
    model = draw(st.sampled_from(MODELS))
    own = [release for release in every if release.model == model]
    question = {
        "model": model,
        "line": draw(st.sampled_from([*LINES, "14.0"])),
        "scope": (
            draw(optional_show),
            draw(st.sampled_from([None, *SEQUENCES])),
            draw(st.sampled_from([None, *SHOTS])),
        ),
        "stamp": draw(st.sampled_from([None, *own])),
        "lock": draw(st.none() | st.lists(st.tuples(some, st.sampled_from([None, "Inference1", "Other"])), max_size=3)),
    }
    return generation, question


def oracle(generation: Generation, asked: dict[str, Any]) -> tuple[str, str | None, str]:
    """Slow and obvious: (source, key that is served, what comes of it), read straight off the rules of resolution."""
    show = asked["scope"][0]
    channel = {(c.channel, c.model): c.key for c in generation.channels}
    following = asked["stamp"] is None or show in generation.follow
    locked = _locked(asked)
    steps: list[tuple[str, str | None]] = [("pin", _pinned(generation, asked))]
    if following:
        steps.append(("lock", locked))
        steps.append((f"channel show/{show}", channel.get((f"show/{show}", asked["model"])) if show else None))
        steps.append((f"channel {generation.channel}", channel.get((generation.channel, asked["model"]))))
    else:
        steps.append(("stamp", asked["stamp"].key))
    source, key = next(((source, key) for source, key in steps if key is not None), ("none", None))
    if not following and locked is not None and locked != key:
        return source, None, "error"
    return (source, *_served(generation, asked["line"], key))


def _pinned(generation: Generation, asked: dict[str, Any]) -> str | None:
    """Ask for a pin of exactly this shot, then of everything wider, one after the other."""
    show, sequence, shot = asked["scope"]
    for wanted in itertools.product([shot, None], [sequence, None], [show, None]):
        for pin in generation.pins:
            if pin.model == asked["model"] and (pin.shot, pin.sequence, pin.show) == wanted:
                return pin.key
    return None


def _locked(asked: dict[str, Any]) -> str | None:
    for node in ("Inference1", None):
        for release, named in asked["lock"] or []:
            if release.model == asked["model"] and named == node:
                return str(release.key)
    return None


def _served(generation: Generation, line: str, key: str | None) -> tuple[str | None, str]:
    if key is None:
        return None, "unavailable"
    release = generation.release(key)
    if release is None:
        return None, "error"
    paths = [a.path for a in release.answers if a.loader == "nuke-inference" and a.nuke_line == line and a.path]
    return key, "path" if any(path.endswith(".cat") for path in paths) else "unavailable"


def _ask(answers: Any, generation: Generation, asked: dict[str, Any]) -> Any:
    frozen = answers.Frozen(ROOT, json.loads(generation.to_bytes()))
    stamp = None if asked["stamp"] is None else _named(answers, asked["stamp"])
    lock = None if asked["lock"] is None else [answers.LockEntry(_named(answers, r), node) for r, node in asked["lock"]]
    loader, scope = asked.get("loader", "nuke-inference"), answers.Scope(*asked["scope"])
    question = answers.Question(asked["model"], loader, asked["line"], scope, stamp, "Inference1")
    return answers.resolve(frozen, question, lock)


def _named(answers: Any, release: GenerationRelease) -> Any:
    return answers.Release(release.model, release.version, release.digest)


@given(situations())
@settings(deadline=None, max_examples=250)
def test_every_answer_is_the_one_that_the_rules_give(
    answers: Any, situation: tuple[Generation, dict[str, Any]]
) -> None:
    generation, asked = situation

    found = _ask(answers, generation, asked)

    outcome = "path" if found.path else "error" if found.error else "unavailable"
    key = None if found.release is None else found.release.key
    assert (found.source, key, outcome) == oracle(generation, asked)
    assert (found.path is None) == (found.unavailable is not None)
    assert found.path is None or (found.path.startswith(ROOT + "/releases/") and found.path.endswith(".cat"))


@given(situations())
@settings(deadline=None, max_examples=100)
def test_where_channels_point_never_changes_what_a_stamped_node_gets(
    answers: Any, situation: tuple[Generation, dict[str, Any]]
) -> None:
    generation, asked = situation
    if asked["stamp"] is None:
        asked["stamp"] = _release(asked["model"], 1, ("cat", "cat"))
    stays = generation.model_copy(update={"follow": ()})
    moved = stays.model_copy(update={"channels": ()})

    assert _ask(answers, stays, asked) == _ask(answers, moved, asked)


def _generation(*releases: GenerationRelease, **fields: Any) -> Generation:
    return Generation(
        number=3,
        station="ws01",
        made_at="2026-11-22T13:45:00Z",
        why="a test",
        site="/site",
        nuke_lines=LINES,
        releases=releases,
        **fields,
    )


def _asked(**more: Any) -> dict[str, Any]:
    return {"model": "acme/roto", "line": "15.1", "scope": (None, None, None), "stamp": None, "lock": None} | more


ONE, TWO = _release("acme/roto", 1, ("cat", "cat")), _release("acme/roto", 2, ("refused", "cat"))
STABLE = GenerationChannel(channel="stable", model="acme/roto", key=TWO.key)


def test_a_stamped_release_that_is_missing_is_an_error_that_names_the_command(answers: Any) -> None:
    found = _ask(answers, _generation(TWO, channels=(STABLE,)), _asked(stamp=ONE))

    assert (found.path, found.error, found.source) == (None, True, "stamp")
    assert ONE.key in found.unavailable
    assert "run: changeover update" in found.unavailable


def test_a_stamp_whose_digest_was_edited_past_the_twelfth_character_is_not_served(answers: Any) -> None:
    edited = ONE.model_copy(update={"digest": ONE.digest[:-1] + "b"})

    found = _ask(answers, _generation(ONE), _asked(stamp=edited))

    assert (found.path, found.error) == (None, True)


def test_a_pin_moves_a_stamped_node_and_the_answer_shows_both(answers: Any) -> None:
    pin = GenerationPin(model="acme/roto", key=TWO.key, show="atlas")

    found = _ask(answers, _generation(ONE, TWO, pins=(pin,)), _asked(stamp=ONE, scope=("atlas", None, None)))

    assert (found.source, found.release.version, found.stamp.version) == ("pin", "2.0.0", "1.0.0")


@pytest.mark.parametrize("narrow", list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("wide", list(itertools.product([True, False], repeat=3)))
def test_of_two_pins_that_cover_a_node_the_narrower_one_wins(
    answers: Any, narrow: tuple[bool, bool, bool], wide: tuple[bool, bool, bool]
) -> None:
    scope = ("atlas", "010", "0010")
    parts = ("show", "sequence", "shot")
    pins = tuple(
        GenerationPin(
            model="acme/roto", key=r.key, **{p: s for p, s, bit in zip(parts, scope, bits, strict=True) if bit}
        )
        for r, bits in ((ONE, narrow), (TWO, wide))
    )
    generation, asked = _generation(ONE, TWO, pins=pins), _asked(scope=scope)

    found = _ask(answers, generation, asked)

    assert (found.source, found.release.key) == ("pin", _pinned(generation, asked))


def test_a_lock_that_disagrees_with_a_stamp_names_both_and_loads_nothing(answers: Any) -> None:
    found = _ask(answers, _generation(ONE, TWO), _asked(stamp=ONE, lock=[(TWO, None)]))

    assert (found.path, found.error) == (None, True)
    assert ONE.key in found.unavailable
    assert TWO.key in found.unavailable


def test_an_unknown_show_is_said(answers: Any) -> None:
    found = _ask(answers, _generation(TWO, channels=(STABLE,)), _asked())

    assert found.path is not None
    assert "show of this node is not known" in found.note


def test_a_pin_for_a_shot_that_may_be_this_one_is_said(answers: Any) -> None:
    pin = GenerationPin(model="acme/roto", key=ONE.key, show="atlas", shot="0010")
    generation = _generation(ONE, TWO, channels=(STABLE,), pins=(pin,))

    unsure = _ask(answers, generation, _asked(scope=("atlas", None, None)))
    sure = _ask(answers, generation, _asked(scope=("atlas", None, "0020")))

    assert (unsure.source, unsure.note) == (
        "channel stable",
        "A pin for show atlas, shot 0010 may apply, but that part of this node's scope is not known.",
    )
    assert (sure.source, sure.note) == ("channel stable", "")


def test_the_vendors_sentence_is_given_where_a_line_cannot_load_the_release(answers: Any) -> None:
    found = _ask(answers, _generation(TWO, channels=(STABLE,)), _asked(line="15.0"))

    assert (found.path, found.error, found.unavailable) == (None, False, "not available in Nuke 15.0: no")


@pytest.mark.parametrize(
    ("line", "loader", "sentence"),
    [
        ("14.0", "nuke-inference", "not available in Nuke 14.0: this station prepares models for 15.0, 15.1"),
        ("15.1", "flame", "not available for flame: acme/roto 2.0.0 (02aaaaaaaaaa) has no form for it"),
    ],
)
def test_a_loader_or_line_without_an_answer_gets_a_sentence(
    answers: Any, line: str, loader: str, sentence: str
) -> None:
    found = _ask(answers, _generation(TWO, channels=(STABLE,)), _asked(line=line, loader=loader))

    assert (found.path, found.error, found.unavailable) == (None, False, sentence)


def test_onnx_is_never_given_to_nukes_own_node(answers: Any) -> None:
    release = _release("acme/roto", 2, ("onnx", "onnx"))

    found = _ask(answers, _generation(release, channels=(STABLE,)), _asked())

    assert found.path is None
    assert "loads .cat files, and m.onnx is not one" in found.unavailable


def test_a_bare_name_works_while_one_vendor_has_it_and_else_asks_for_the_vendor(answers: Any) -> None:
    other = _release("zeta/roto", 1, ("cat", "cat"))

    alone = _ask(answers, _generation(TWO, channels=(STABLE,)), _asked(model="roto"))
    both = _ask(answers, _generation(TWO, other, channels=(STABLE,)), _asked(model="roto"))
    stamped = _ask(answers, _generation(TWO, other, channels=(STABLE,)), _asked(model="roto", stamp=TWO))
    nobody = _ask(answers, _generation(TWO), _asked(model="fog"))

    assert (alone.model, alone.path) == ("acme/roto", f"{ROOT}/releases/acme/roto/2/m.cat")
    assert both.unavailable == "roto may be acme/roto or zeta/roto; write the vendor too"
    assert stamped.source == "stamp"
    assert (nobody.error, nobody.unavailable) == (True, "no model fog is known to generation 3 of station ws01")


def test_a_stamp_of_another_model_is_an_error(answers: Any) -> None:
    found = _ask(answers, _generation(ONE, TWO), _asked(stamp=_release("acme/key", 1, ("cat", "cat"))))

    assert (found.path, found.error) == (None, True)
    assert "which is not acme/roto" in found.unavailable


def test_a_withdrawn_release_is_served_to_its_nodes_and_said(answers: Any) -> None:
    withdrawn = ONE.model_copy(update={"withdrawn": "flickers on hair"})

    found = _ask(answers, _generation(withdrawn), _asked(stamp=withdrawn, scope=("atlas", None, None)))

    assert found.path is not None
    assert found.note.endswith("was withdrawn by its vendor: flickers on hair")


@pytest.mark.parametrize("path", ["/etc/m.cat", "../m.cat", "releases/../../m.cat", "releases/a b/m.cat"])
def test_a_path_that_leaves_the_store_is_not_given(answers: Any, path: str) -> None:
    body = json.loads(_generation(ONE).to_bytes())
    body["releases"][0]["answers"] = [{"loader": "python", "path": path}]
    question = answers.Question(
        "acme/roto", "python", "15.1", stamp=answers.Release(ONE.model, ONE.version, ONE.digest)
    )

    found = answers.resolve(answers.Frozen(ROOT, body), question, None)

    assert found.path is None
    assert "outside the store" in found.unavailable


@pytest.mark.parametrize("sign", [" ", "\t", "#", "%", "[", "]", "{", "}"])
def test_a_store_whose_path_nuke_would_misread_is_an_error(answers: Any, sign: str) -> None:
    body = json.loads(_generation(ONE).to_bytes())
    question = answers.Question(
        "acme/roto", "nuke-inference", "15.1", stamp=answers.Release(ONE.model, ONE.version, ONE.digest)
    )

    found = answers.resolve(answers.Frozen(f"/st{sign}ore", body), question, None)

    assert (found.path, found.error) == (None, True)
    assert "move the store" in found.unavailable


def test_releases_are_found_again_by_the_path_of_their_file(answers: Any) -> None:
    frozen = answers.Frozen(ROOT, json.loads(_generation(ONE, TWO).to_bytes()))

    assert frozen.release_at(f"{ROOT}/releases/acme/roto/2/m.cat").version == "2.0.0"
    assert frozen.release_at(f"{ROOT}/releases/acme/roto/9/m.cat") is None
    assert frozen.release_at("/elsewhere/releases/acme/roto/2/m.cat") is None
    assert [str(release) for release in frozen.releases("acme/roto")] == [
        "acme/roto 1.0.0 (01aaaaaaaaaa)",
        "acme/roto 2.0.0 (02aaaaaaaaaa)",
    ]
