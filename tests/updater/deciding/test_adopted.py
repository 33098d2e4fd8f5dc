from dataclasses import replace
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, RefusedError, TrustError, UndecidedError
from changeover_registry.records.choice import Choice, Share
from changeover_registry.records.findings import NotApplicable, Refused
from changeover_registry.records.release import FileEntry, Release, Requires
from changeover_updater.adopted import (
    Found,
    adopt,
    check_only_adopted,
    known_as,
    model_name,
    names_of,
    next_version,
    record_of,
)
from changeover_updater.choose import Change
from changeover_updater.differences import differences, new_baselines
from changeover_updater.eligible import judge_release
from changeover_updater.needed import Needed
from changeover_updater.permitted import baseline_of, check_adoption, permission_of
from changeover_updater.plan import make_plan
from changeover_updater.studio import Studio, VendorState
from changeover_validators.checks.interface import check_interface
from changeover_validators.checks.licence import check_licence

CHANGE = Change(who="td", when="2026-11-22T12:00:00Z", why="it was there")


def found(stem: str = "Hair Matte", *, content: str = "a", package: str = "old", **more: Any) -> Found:
    file = FileEntry(path="model.cat", size=3, sha256=content * 64, blocks=(content * 64,))
    return Found(source=f"/plugins/{package}/{stem}.cat", stem=stem, package=package, file=file, **more)


def adopted(version: str = "0.1.0", model: str = "studio/hair", **more: Any) -> Release:
    return record_of(found(**more), model, version, who="td", why="it was there")


def own(build: Any, *releases: Release, local: bool = True, **changes: Any) -> VendorState:
    state: VendorState = build.vendor(*releases, name="studio", allow_executable=True, **changes)
    return replace(state, entry=state.entry.model_copy(update={"local": local or None}))


def studio(build: Any, *choices: Choice, vendors: tuple[VendorState, ...]) -> Studio:
    return Studio(choices=choices, vendors=vendors, policy=build.policy, policy_digest=build.policy_digest)


def with_baseline(release: Release, model: str = "acme/person-roto", show: str = "atlas") -> Choice:
    return adopt(None, f"show/{show}", release.ref(), model, CHANGE, lambda _: True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hair Matte v2", "hair-matte-v2"),
        ("Pérsön_Roto.1000", "person-roto-1000"),
        ("--x--", "x"),
        ("targets", "targets-model"),
        ("日本", ""),
        ("a" * 60, "a" * 40),
    ],
)
def test_file_name_becomes_a_model_name(text: str, name: str) -> None:
    assert model_name(text) == name


def test_two_files_of_one_name_are_told_apart_by_their_folders() -> None:
    names = names_of([found("model", content="a", package="Hair"), found("model", content="b", package="Edge")], None)

    assert names == {"a" * 64: "hair-model", "b" * 64: "edge-model"}


def test_the_same_bytes_twice_are_one_file() -> None:
    assert names_of([found("one"), found("one", package="copy")], None) == {"a" * 64: "one"}


def test_one_name_for_several_files_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one .cat that is named so"):
        names_of([found("a"), found("b", content="b")], "hair")


@pytest.mark.parametrize("stems", [("日本",), ("x", "x")])
def test_file_of_which_no_name_can_be_made_is_refused(stems: tuple[str, ...]) -> None:
    files = [found(stem, content=content) for stem, content in zip(stems, "ab", strict=False)]

    with pytest.raises(InvalidInputError, match="a name that this file alone has"):
        names_of(files, None)


def test_versions_of_what_is_adopted_stay_below_one(build: Any) -> None:
    real = build.release("3.2.0", model="studio/hair")

    assert next_version("studio/hair", ()) == "0.1.0"
    assert next_version("studio/hair", [adopted("0.1.0"), adopted("0.4.0"), real]) == "0.5.0"
    assert next_version("studio/edge", [adopted("0.4.0")]) == "0.1.0"


def test_record_names_what_nobody_knows() -> None:
    release, told = adopted(modified_at="2025-03-01T00:00:00Z").adopted, adopted(torch_line="2.1.1")

    assert release is not None
    assert told.adopted is not None
    assert (release.source, release.modified_at) == ("/plugins/old/Hair Matte.cat", "2025-03-01T00:00:00Z")
    assert {"licences", "contract", "interface", "provenance", "requires.torch_line"} <= set(release.unknown)
    assert "requires.torch_line" not in told.adopted.unknown
    assert told.variants[0].requires == Requires(torch_line="2.1.1")
    assert Release.from_bytes(told.to_bytes(), where="release.json") == told


def test_file_is_known_by_its_bytes_and_only_as_adopted(build: Any) -> None:
    release = adopted()
    made = build.release(model="studio/hair", variants=release.variants, interface=release.interface)

    assert known_as(found("renamed"), [made, release]) == release
    assert known_as(found("renamed"), [made]) is None
    assert known_as(found(content="b"), [release]) is None


def test_show_has_it_without_a_verdict_and_says_so() -> None:
    choice = adopt(None, "show/atlas", adopted().ref(), None, CHANGE, lambda _: True)

    (pointer,) = choice.channels
    assert (choice.scope, pointer.channel, pointer.release, pointer.verdict) == (
        "shows/atlas",
        "show/atlas",
        adopted().ref(),
        None,
    )
    assert choice.baselines is None
    assert choice.entry.what == f"adopt {adopted().ref()} on show/atlas"
    assert Choice.from_bytes(choice.to_bytes(), where="choice") == choice


def test_baseline_stands_in_the_choice_and_before_whoever_signs_it() -> None:
    choice = with_baseline(adopted())

    assert [(b.channel, b.model, b.release) for b in choice.baselines or ()] == [
        ("show/atlas", "acme/person-roto", adopted().ref())
    ]
    assert new_baselines(None, choice) == choice.baselines
    assert new_baselines(choice, choice) == ()
    assert any(str(adopted().ref()) in str(line) for line in differences(None, choice) if "baseline" in line.what)


def test_what_is_adopted_next_is_what_others_are_compared_with_then() -> None:
    last = with_baseline(adopted())
    second = adopted("0.2.0", content="b").ref()

    choice = adopt(last, "show/atlas", second, None, CHANGE, lambda _: True)

    assert [entry.release for entry in choice.channels] == [second]
    assert [(b.model, b.release) for b in choice.baselines or ()] == [("acme/person-roto", second)]


def test_baseline_of_a_model_is_replaced_by_the_next_one_named_for_it() -> None:
    other = adopted(model="studio/edge", content="b").ref()

    choice = adopt(with_baseline(adopted()), "show/atlas", other, "acme/person-roto", CHANGE, lambda _: True)

    assert [b.release for b in choice.baselines or ()] == [other]


@pytest.mark.parametrize("channel", ["stable", "beta"])
def test_no_channel_of_the_site_points_at_what_was_adopted(channel: str) -> None:
    with pytest.raises(InvalidInputError, match="the channel of a show"):
        adopt(None, channel, adopted().ref(), None, CHANGE, lambda _: True)


def test_what_was_judged_is_not_replaced(build: Any) -> None:
    real = build.release("1.0.0", model="studio/hair")
    last = build.choice({"show/atlas": real}, scope="shows/atlas")

    with pytest.raises(RefusedError, match="which was promoted") as error:
        adopt(last, "show/atlas", adopted().ref(), None, CHANGE, lambda ref: ref != real.ref())
    assert str(real.ref()) in str(error.value)


def test_rollout_of_what_was_judged_is_not_ended(build: Any) -> None:
    first, real = adopted(), build.release("1.0.0", model="studio/hair").ref()
    last = adopt(None, "show/atlas", first.ref(), None, CHANGE, lambda _: True)
    shared = last.model_copy(update={"shares": (Share(channel="show/atlas", release=real, percent=10),)})

    with pytest.raises(RefusedError, match="which was promoted"):
        adopt(shared, "show/atlas", adopted("0.2.0").ref(), None, CHANGE, lambda ref: ref == first.ref())


def test_model_that_the_show_has_itself_is_compared_with_its_own_release_and_nothing_else(build: Any) -> None:
    last = build.choice({"show/atlas": build.release("1.0.0")}, scope="shows/atlas")

    with pytest.raises(RefusedError, match="acme/person-roto"):
        adopt(last, "show/atlas", adopted().ref(), "acme/person-roto", CHANGE, lambda _: True)
    with pytest.raises(InvalidInputError, match="another model"):
        adopt(None, "show/atlas", adopted().ref(), "studio/hair", CHANGE, lambda _: True)


def test_adopted_release_is_not_promoted_whatever_was_overridden(build: Any) -> None:
    release = adopted()
    overrides = (build.override(release, "hardware", "vram", "speed", "golden", "smoke"),)
    case = build.case(release, verdicts=(), overrides=overrides)

    for verdicts in ((), (build.verdict(build.release(model="studio/hair")),)):
        with pytest.raises(RefusedError, match="changeover adopt FILE --show SHOW"):
            permission_of(replace(case, verdicts=verdicts), tuple)
    with pytest.raises(RefusedError, match="licences"):
        check_only_adopted(release)
    check_only_adopted(build.release())


def test_what_a_show_had_it_may_have_again(build: Any) -> None:
    release = adopted()
    last = adopt(None, "show/atlas", release.ref(), None, CHANGE, lambda _: True)

    assert permission_of(build.case(release, verdicts=()), lambda: last.channels) is None


def test_withdrawn_is_withdrawn_for_whoever_had_it(build: Any) -> None:
    refused = Refused(check="trust", rule="withdrawn", expected="x", actual="y", remedy="z")

    with pytest.raises(TrustError):
        check_adoption(build.case(adopted(), findings=(refused,), verdicts=()))


def test_candidate_is_compared_with_what_the_show_has_in_its_place(build: Any) -> None:
    release, candidate = adopted(), build.release()
    known = studio(build, with_baseline(release), vendors=(own(build, release), build.vendor(candidate)))

    assert baseline_of(known, candidate, "show/atlas") == release
    assert baseline_of(known, candidate, "show/borea") is None
    assert baseline_of(known, candidate, "stable") is None


def test_baseline_counts_until_the_show_has_the_model_itself(build: Any) -> None:
    release, old, candidate = adopted(), build.release(), build.release("1.1.0")
    choice = with_baseline(release)
    promoted = build.choice({"show/atlas": old}, scope="shows/atlas").model_copy(update={"baselines": choice.baselines})
    known = studio(build, promoted, vendors=(own(build, release), build.vendor(old, candidate)))

    assert baseline_of(known, candidate, "show/atlas") == old


def test_show_that_has_something_in_its_place_is_not_compared_with_the_site(build: Any) -> None:
    release, old, candidate = adopted(), build.release(), build.release("1.1.0")
    choices = (build.choice({"stable": old}), with_baseline(release))
    known = studio(build, *choices, vendors=(own(build, release), build.vendor(old, candidate)))

    assert baseline_of(known, candidate, "show/atlas") == release


def test_baseline_that_is_not_known_here_is_not_nothing(build: Any) -> None:
    candidate = build.release()
    known = studio(build, with_baseline(adopted()), vendors=(build.vendor(candidate),))

    with pytest.raises(UndecidedError, match="studio/hair@0.1.0"):
        baseline_of(known, candidate, "show/atlas")


def test_whoever_needs_a_model_needs_what_it_is_compared_with() -> None:
    choice = with_baseline(adopted())

    needed = Needed.of("person-roto@1.0.0").beside([choice])
    other = Needed.of("acme/edge@1.0.0").beside([choice])

    assert needed.models_of("studio", None) == {"person-roto", "hair"}
    assert needed.models_of("acme", None) == {"person-roto"}
    assert other.models_of("studio", None) == set()


def test_station_serves_it_without_a_verdict_and_says_that_nobody_judged_it(build: Any) -> None:
    release = adopted()
    candidate = build.candidate(
        release, vendor=own(build, release), verdicts=(), facts=build.facts(nukes=(build.nuke(),))
    )

    judged = judge_release(candidate)

    assert judged.accepted
    (answer,) = [answer for answer in judged.answers if answer.path]
    assert (answer.loader, answer.nuke_line) == ("nuke-inference", "15.1")
    assert [f.rule for f in judged.findings if isinstance(f, NotApplicable) and f.check == "licence"] == ["adopted"]


def test_what_another_vendor_calls_adopted_is_not_trusted(build: Any) -> None:
    release = adopted()
    candidate = build.candidate(
        release, vendor=own(build, release, local=False), verdicts=(), facts=build.facts(nukes=(build.nuke(),))
    )

    judged = judge_release(candidate)

    assert not judged.accepted
    assert next((f.check, f.rule) for f in judged.reasons() if isinstance(f, Refused)) == ("trust", "adopted elsewhere")


@pytest.mark.parametrize("torch", ["2.7.1", None], ids=["made-for-a-newer-nuke", "nobody-knows"])
def test_what_is_known_against_it_refuses_and_what_is_unknown_does_not(build: Any, torch: str | None) -> None:
    release = adopted(torch_line=torch)
    candidate = build.candidate(
        release, vendor=own(build, release), verdicts=(), facts=build.facts(nukes=(build.nuke(),))
    )

    judged = judge_release(candidate)

    assert judged.accepted is (torch is None)
    assert [f.check for f in judged.reasons()] == ([] if torch is None else ["hardware"])


def test_generation_marks_it_so_that_nobody_is_offered_it(build: Any) -> None:
    release, other = adopted(), build.release()
    choice = adopt(None, "show/atlas", release.ref(), None, CHANGE, lambda _: True)
    vendors = (own(build, release), build.vendor(other))
    facts = build.facts(nukes=(build.nuke(),))
    known = build.known(
        choice, build.choice({"stable": other}), vendors=vendors, verdicts=(build.verdict(other),), facts=facts
    )

    generation = make_plan(known).generation

    assert generation is not None
    assert {entry.model: entry.adopted for entry in generation.releases} == {
        "studio/hair": True,
        "acme/person-roto": None,
    }


def test_interface_of_another_model_or_of_an_adopted_one_is_not_compared(build: Any) -> None:
    release, made = adopted(), build.release("0.3.0", model="studio/hair")

    def rules(candidate: Release, current: Release) -> list[str]:
        return [f.rule for f in check_interface(candidate, current) if isinstance(f, NotApplicable)]

    assert rules(build.release(), release) == ["other-model"]
    assert rules(made, release) == ["adopted"]
    assert rules(release, made) == ["adopted"]


def test_licence_of_what_was_adopted_is_said_to_be_unknown(build: Any) -> None:
    (finding,) = check_licence(adopted(), build.policy)

    assert isinstance(finding, NotApplicable)
    assert "unknown" in finding.detail


@pytest.mark.parametrize(
    ("stem", "shown"),
    [("na\udcffme", r"na\udcffme"), ("a\x1b[31mb", r"a\x1b[31mb"), ("a\nb", r"a\nb"), ("e\u0301", "\u00e9")],
)
def test_file_of_any_name_can_be_adopted(stem: str, shown: str) -> None:
    release = record_of(replace(found(), stem=stem), "studio/hair", "0.1.0", who="td", why="it was there")

    assert release.summary == f"{shown}.cat, as the studio had it"
    assert Release.from_bytes(release.to_bytes(), where="x") == release
