"""What a report says, as a value and as a document, whatever is kept of a verdict."""

import dataclasses
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan, Steady
from changeover_registry.records.policy import GoldenPolicy, Guards, Policy
from changeover_registry.records.verdict import ShotScore, Verdict
from changeover_validators.golden.report.build import Sources, build_report
from changeover_validators.golden.report.document import render_json
from changeover_validators.golden.report.html import render_html
from changeover_validators.golden.report.lighter import lighter

SAMPLES = Path(__file__).parents[3] / "samples"
Make = Callable[..., Any]


def change(story: Any, **changes: Any) -> Any:
    """The story with other sources."""
    return dataclasses.replace(story, sources=dataclasses.replace(story.sources, **changes))


def change_point(story: Any, **changes: Any) -> Any:
    """The story with other things found at its first operating point."""
    verdict = story.sources.verdict
    first, *rest = verdict.points
    points = (first.model_copy(update=changes), *rest)
    return change(story, verdict=verdict.model_copy(update={"points": points}))


def test_shots_are_sorted_worst_first_and_a_broken_guard_goes_before_any_loss(make_story: Make) -> None:
    shots = make_story(shots=6).report().points[0].shots

    assert shots[0].alias == "shot-2"
    assert [finding.rule for finding in shots[0].broken] == ["worst shot"]
    rest = [shot.badness for shot in shots[1:]]
    assert rest == sorted(rest, reverse=True)
    assert all(not shot.broken for shot in shots[1:])


def test_badness_is_the_worst_loss_over_its_margin(make_story: Make) -> None:
    story = make_story(decision="accept")
    scores = tuple(
        ShotScore(shot="atl010-hero", metric=metric, frames=2, candidate=candidate, current="0.5")
        for metric, candidate in (("jaccard:davis2017", "0.485"), ("boundary_f:davis2017", "0.6"), ("mad:rvm", "0.504"))
    )

    (shot,) = change_point(story, scores=scores, scored=None).report().points[0].shots

    assert shot.badness == Decimal("1.5")
    assert [score.gain for score in shot.scores] == [Decimal("-0.015"), Decimal("0.1"), Decimal("-0.004")]


def test_without_a_baseline_the_shot_with_the_least_j_goes_first(make_story: Make) -> None:
    shots = make_story(decision="accept", baseline=False).report().points[0].shots

    values = [shot.score("jaccard:davis2017").candidate for shot in shots]
    assert values == sorted(values)
    assert all(score.gain is None for shot in shots for score in shot.scores)


def test_candidates_error_is_a_multiple_of_what_two_artists_differ(make_story: Make) -> None:
    shot = make_story(shots=1).report().points[0].shots[0]
    mad, j, flicker = (shot.score(name) for name in ("mad:rvm", "jaccard:davis2017", "flicker:mean-abs"))
    second = next(line for curve in shot.curves if curve.metric == "mad:rvm" for line in curve.lines[2:])
    mean = sum(map(float, second.values)) / len(second.values)

    assert float(mad.second) == pytest.approx(mean)
    assert float(mad.multiple) == pytest.approx(float(mad.candidate) / mean, abs=1e-3)
    assert float(j.multiple) == pytest.approx((1 - float(j.candidate)) / (1 - float(j.second)), abs=1e-3)
    assert flicker.multiple is None


def test_gates_say_what_their_bounds_say(make_story: Make) -> None:
    states = {gate.metric: gate.state for gate in make_story().report().points[0].gates}

    assert states == {"jaccard:davis2017": "open", "boundary_f:davis2017": "holds", "mad:rvm": "worse"}


def test_contracts_stand_side_by_side_and_what_differs_is_marked(make_story: Make) -> None:
    story = make_story()

    lines = {line.name: line for line in story.report().points[0].contract}
    alone = change(story, current=None).report().points[0].contract

    assert [name for name, line in lines.items() if line.differs] == ["pad"]
    assert (lines["pad"].candidate, lines["pad"].current) == ("reflect", "zero")
    assert lines["inputs 1.channels"].candidate == "R, G, B"
    assert all(line.current is None for line in alone)


def test_thresholds_say_where_they_come_from(make_story: Make) -> None:
    guards = Guards.model_validate({"worst_window": "0.07"})
    policy = Policy(golden=GoldenPolicy(margin_mad="0.004", guards=guards))

    limits = {limit.name: limit for limit in change(make_story(), policy=policy).report().limits}

    assert limits["golden.margin_mad"].value == "0.004"
    assert limits["golden.margin_mad"].origin.startswith("policy.toml, 0123456789ab")
    assert limits["golden.guards.worst_window"].origin.startswith("policy.toml")
    assert limits["golden.guards.floor_jaccard"].origin == "default"


def test_without_the_policy_of_then_there_are_no_thresholds_and_the_page_says_why(make_story: Make) -> None:
    story = change(make_story(shots=1), policy=None)

    assert story.report().limits == ()
    assert "The policy that this verdict was made under is not here any more" in story.page()


def test_what_the_shots_can_tell_is_of_their_own_spread(make_story: Make) -> None:
    story = make_story(shots=6)
    one = {detect.metric: detect for detect in story.report().points[0].detects}["mad:rvm"]
    scores = [s for s in story.sources.verdict.points[0].scores if s.metric == "mad:rvm"]
    gains = [float(s.current) - float(s.candidate) for s in scores]
    mean = sum(gains) / 6

    assert float(one.spread) == pytest.approx((sum((g - mean) ** 2 for g in gains) / 5) ** 0.5, abs=1e-8)
    assert (one.shots, 0 < one.power < 1, one.needed > 1) == (6, True, True)
    assert one.smallest > 0


def test_sign_off_and_override_stand_on_the_first_screen(make_story: Make, notes: Any) -> None:
    signed, override = notes
    story = make_story()
    verdict = story.sources.verdict.model_copy(update={"sign_off": signed})

    report = change(story, verdict=verdict, overrides=(override,)).report()

    assert [(note.kind, note.name) for note in report.notes] == [("sign-off", "Maya Ortiz"), ("override", "td@ws-1")]
    assert report.notes[0].why == "the hair of shot-2 is fine"
    assert report.notes[1].why == "one night only, for shot-3"


def test_outside_the_owners_show_no_name_is_anywhere(make_story: Make, notes: Any, real_names: Make) -> None:
    signed, override = notes
    story = make_story(reason="golden: atl020-hero/plate.1001.exr cannot be read")
    verdict = story.sources.verdict.model_copy(update={"sign_off": signed})
    story = change(story, verdict=verdict, overrides=(override,))

    outside = story.page() + render_json(story.report()).decode()
    inside = change(story, named=True).page()

    assert [name for name in real_names(4) if name in outside.lower()] == []
    assert all(name in inside for name in real_names(4))
    assert re.findall(r"shot-[1-4]\b", re.sub(r"<small>.*?</small>|<[^>]+>", "", inside)) == []
    assert "changeover report fedcba987654 --show SHOW --out FILE.html" in outside
    assert "--show SHOW" not in inside
    assert "golden: shot-2/plate.1001.exr cannot be read" in outside


def test_without_the_sets_records_names_still_stay_inside(make_story: Make, real_names: Make) -> None:
    story = change(make_story(), golden_set=None, shots=())

    page = story.page()

    assert [name for name in real_names(4) if name in page] == []
    assert "unnamed-1" in page


def test_a_verdict_of_before_this_release_is_shown_as_far_as_it_goes() -> None:
    verdict = Verdict.from_bytes((SAMPLES / "verdict-1.json").read_bytes(), where="sample")

    report = build_report(Sources(verdict=verdict, digest="0" * 64, signer="ana"))
    page = render_html(report)

    (shot,) = report.points[0].shots
    assert [(score.label, score.gain) for score in shot.scores] == [("J", Decimal("0.01"))]
    assert (shot.curves, shot.pictures) == ((), ())
    assert report.points[0].gates[0].label == "J"
    assert "speed was not run" in page
    assert "ab0100" not in page


def test_memory_stands_with_its_plan_in_words_its_parts_and_its_range(make_story: Make) -> None:
    answer = MemoryAnswer.from_bytes((SAMPLES / "memory-1.json").read_bytes(), where="sample")
    plan = MemoryPlan(initial_chunk_bytes=920 * 2**20, pattern=False)
    steady = Steady(in_use_bytes=600 * 2**20, arena_bytes=711 * 2**20)
    story = make_story(shots=1, frames=2)

    planned = change_point(story, memory_plan=plan, memory_answer=answer, measured_memory=steady).page()
    own = change_point(story, memory_answer=answer).page()

    assert "Memory plan: a first region of 920 MiB, no pattern; at its most it needs the least of all" in planned
    assert "1920 × 1088, onnxruntime 1.31.1, cpu: arena 707 MiB over 5 sessions, in all 715 MiB, modelled" in planned
    rows = re.findall(r'<th scope="row">([^<]+)</th><td class="num">(\d+) MiB</td><td>(\w+)</td>', planned)
    assert ("activations", "534", "modelled") in rows
    assert rows[-3:] == [
        ("in all", "715", "modelled"),
        ("resting, between frames", "42", "modelled"),
        ("arena, in the run", "711", "measured"),
    ]
    assert "Memory plan: the runtime&#39;s own settings." in own
    assert "Memory plan" not in story.page()


@pytest.mark.parametrize("decision", ["accept", "reject", "inconclusive", "error"])
def test_every_decision_has_a_page_that_says_it_first(make_story: Make, decision: str) -> None:
    page = make_story(shots=1, frames=2, decision=decision).page()

    words = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split()
    assert words[:2] == [f"{decision}:", "acme/person-roto"]
    assert decision in words[4:8]


def test_document_is_canonical_and_has_every_number(make_story: Make) -> None:
    story = make_story(shots=2, frames=3)

    data = render_json(story.report())

    document = canonical.loads(data, where="test")
    assert document["schema"] == "changeover.report/1"
    (candidate, *_) = document["points"][0]["shots"][0]["curves"][0]["lines"]
    assert candidate["subject"] == "candidate"
    assert len(candidate["values"]) == 3
    kept = {curve.values for scores in story.sources.scores.values() for curve in scores.curves}
    assert tuple(candidate["values"]) in kept
    assert render_json(story.report()) == data


def test_page_names_no_address_and_forbids_all(make_story: Make) -> None:
    page = make_story(shots=1, frames=2).page()

    assert re.findall(r"(?:src|href|action|srcset|data)=\"(?!data:|#)[^\"]*\"|url\([^)]*\)|@import|https?:", page) == []
    assert len(re.findall(r"<script[ >]", page)) == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-")
    assert "unsafe" not in policy[1]


def test_a_heavy_plate_is_made_lighter_and_nothing_else_is(make_story: Make) -> None:
    import numpy as np
    import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses

    story = make_story(shots=1, frames=2)
    plate, crop = (story.report().points[0].shots[0].picture("plate", crop=crop) for crop in (False, True))
    truth = story.report().points[0].shots[0].picture("truth")
    heavy = bytes(story.pictures[plate.sha256])

    light = lighter(plate, heavy)

    assert len(heavy) > 150_000
    assert light.startswith(b"\xff\xd8\xff")
    assert len(light) < len(heavy) / 2
    assert lighter(crop, heavy) is heavy
    assert lighter(truth, heavy) is heavy
    assert lighter(plate, heavy[:1000]) == heavy[:1000]
    assert lighter(plate, b"no picture " * 20_000) == b"no picture " * 20_000
    assert np.abs(decoded(oiio, light) - decoded(oiio, heavy)).mean() < 3


def decoded(oiio: Any, data: bytes) -> Any:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".jpg" if data.startswith(b"\xff") else ".png") as file:
        file.write(data)
        file.flush()
        return oiio.ImageBuf(file.name).get_pixels(oiio.UINT8).astype(int)
