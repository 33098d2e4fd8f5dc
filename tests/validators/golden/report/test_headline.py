"""The first line of a report, for every way in which a verdict can come about."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from changeover_registry.records.findings import NotRun, Refused
from changeover_validators.golden.report.build import build_report

Make = Callable[..., Any]


def test_a_reject_says_on_how_many_shots_and_which_is_the_worst(make_story: Make) -> None:
    report = make_story(shots=6).report()
    (worst, *_) = report.points[0].shots
    j = worst.score("jaccard:davis2017")
    margins = {gate.metric: gate.margin for gate in report.points[0].gates}
    worse = [
        shot
        for shot in report.points[0].shots
        if shot.broken or any(shot.score(name).gain < -margin for name, margin in margins.items())
    ]

    assert report.headline == (
        f"Worse than 1.0.0 on {len(worse)} of 6 shots; worst: shot-2, Jaccard {j.candidate:.2f} (was {j.current:.2f})"
    )


@pytest.mark.parametrize(
    ("decision", "baseline", "begins"),
    [
        ("accept", True, "No worse than 1.0.0 over 4 shots; worst: "),
        ("accept", False, "Every floor and guard holds on 4 shots; nothing is in use to compare with; worst: "),
        ("inconclusive", True, "Not decided: worse than 1.0.0 on "),
        ("inconclusive", False, "Not decided over 4 shots; nothing is in use to compare with; worst: "),
        ("reject", False, "A floor or guard is broken on 1 of 4 shots; worst: shot-2, Jaccard "),
    ],
)
def test_other_decisions_over_shots_say_what_they_rest_on(
    make_story: Make, decision: str, baseline: bool, begins: str
) -> None:
    assert make_story(decision=decision, baseline=baseline).report().headline.startswith(begins)


@pytest.mark.parametrize(
    ("decision", "finding", "says"),
    [
        (
            "reject",
            Refused(check="vram", rule="VRAM budget", expected="5011 MiB", actual="12593 MiB", remedy="ask"),
            "Refused by the check vram: VRAM budget, found 12593 MiB",
        ),
        (
            "reject",
            Refused(check="speed", rule="speed", expected="less", actual="x" * 61, remedy="ask"),
            "Refused by the check speed",
        ),
        (
            "error",
            NotRun(check="smoke", why="it fell", remedy="ask", error=True),
            "The check smoke could not be measured",
        ),
        ("inconclusive", NotRun(check="vram", why="no model", remedy="ask"), "The check vram could not be run"),
    ],
)
def test_where_another_check_decided_it_is_named(make_story: Make, decision: str, finding: Any, says: str) -> None:
    story = make_story(shots=0, decision=decision)
    point = story.sources.verdict.points[0].model_copy(update={"findings": ()})
    verdict = story.sources.verdict.model_copy(update={"findings": (finding,), "points": (point,)})

    assert build_report(dataclasses.replace(story.sources, verdict=verdict)).headline == says


def test_below_the_best_ever_approved_is_not_called_worse_than_the_current_release(make_story: Make) -> None:
    story = make_story()
    first, *rest = story.sources.verdict.points
    ratchet = first.findings[0].model_copy(update={"rule": "ratchet"})
    points = (first.model_copy(update={"findings": (ratchet,)}), *rest)
    verdict = story.sources.verdict.model_copy(update={"points": points})

    said = build_report(dataclasses.replace(story.sources, verdict=verdict)).headline

    assert said.startswith("Worse than the best ever approved on 1 of 4 shots; worst: shot-2, ")
    assert "was" not in said


def test_headline_goes_by_alias_or_name_as_the_reader_may_know(make_story: Make) -> None:
    assert "worst: atl020-hero, " in make_story(named=True).report().headline
    assert "worst: shot-2, " in make_story(named=False).report().headline
