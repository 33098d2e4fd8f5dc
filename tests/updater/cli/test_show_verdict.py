"""How a verdict is shown: the gated metrics of each shot, the worst first, better and worse by the catalogue."""

import re
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan, Steady
from changeover_registry.records.release import ReleaseRef, Tile
from changeover_registry.records.verdict import MetricSummary, OperatingPoint, PointReport, ShotScore, SignOff, Verdict
from changeover_updater.cli._show_plan import _cell, promote_line, show_plan, show_verdict
from changeover_updater.plan import Move, Plan
from changeover_validators.golden.catalogue import METRICS, SUMMARIES, Metric

SAMPLE = Path(__file__).parents[2] / "samples" / "memory-1.json"
NAMES = ("jaccard:davis2017", "mad:rvm", "dtssd:rvm", "boundary_iou:cheng2021")


def score(shot: str, metric: str, candidate: str, current: str | None) -> ShotScore:
    return ShotScore(shot=shot, metric=metric, frames=12, candidate=candidate, current=current)


def verdict(scores: tuple[ShotScore, ...], gated: tuple[str, ...], **changes: Any) -> Verdict:
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
    metrics = tuple(MetricSummary(metric=name, shots=2, margin="0.01", mean="0") for name in gated)
    base: dict[str, Any] = {
        "candidate": ReleaseRef(model="acme/person-roto", version="1.1.0", digest="a" * 64),
        "decision": "accept",
        "reason": "because",
        "made_at": "2026-11-22T12:00:00Z",
        "made_by": "td@vm1",
        "host": "vm1",
        "host_class": "a" * 64,
        "facts": "a" * 64,
        "policy": "b" * 64,
        "sandbox": "bubblewrap",
        "findings": (),
        "points": (PointReport(point=point, scores=scores, metrics=metrics),),
    }
    return Verdict(**(base | changes))


def shown(capsys: pytest.CaptureFixture[str], made: Verdict) -> str:
    show_verdict("d" * 64, made, whole=True)
    return capsys.readouterr().out


def test_only_gated_metrics_are_shown_a_shot_and_the_worst_shot_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = tuple(
        score(shot, name, candidate, "0.5") for shot, candidate in (("owl", "0.6"), ("fox", "0.4")) for name in NAMES
    )
    out = shown(capsys, verdict(scores, NAMES[:3]))
    assert "dtssd:rvm" in out
    assert "boundary_iou" not in out
    assert out.index("fox") < out.index("owl")
    fox = next(line for line in out.splitlines() if "fox" in line)
    assert re.findall(r"\([-+.0-9]+\)", fox) == ["(-0.1000)", "(+0.1000)", "(+0.1000)"], "mad and dtssd are errors"
    assert "positive is better" in out


def test_without_a_baseline_the_metrics_of_floor_and_ceiling_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    scores = tuple(score("owl", name, "0.6", None) for name in NAMES)
    out = shown(capsys, verdict(scores, ()))
    assert "jaccard:davis2017" in out
    assert "mad:rvm" in out
    assert "dtssd" not in out


def test_first_verdicts_whose_metrics_have_no_variant_are_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    scores = (
        score("owl", "jaccard", "0.6", "0.5"),
        score("fox", "jaccard", "0.4", "0.5"),
        score("fox", "mad", "0.1", "0.2"),
    )
    out = shown(capsys, verdict(scores, ("jaccard", "mad")))
    assert out.index("fox") < out.index("owl")
    assert "0.1000 (+0.1000)" in out


def test_sign_off_stands_at_the_top(capsys: pytest.CaptureFixture[str]) -> None:
    word = SignOff(of="f" * 64, name="Ada Lovelace", note="as good", by="sup", at="2026-11-22T12:00:00Z")
    out = shown(capsys, verdict((), (), sign_off=word))
    assert "signed off by Ada Lovelace, 2026-11-22T12:00:00Z, of verdict ffffffffffff: as good" in out


def test_verdict_of_a_question_of_what_if_names_the_host_that_was_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "rtx-a4000-16gib" in shown(capsys, verdict((), (), judged_host="rtx-a4000-16gib"))
    assert "what if" not in shown(capsys, verdict((), ()))


def test_memory_is_shown_with_its_plan_why_it_was_chosen_its_range_and_its_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = MemoryAnswer.from_bytes(SAMPLE.read_bytes(), where="sample")
    steady = Steady(in_use_bytes=600 * 2**20, arena_bytes=711 * 2**20)
    plan = MemoryPlan(initial_chunk_bytes=920 * 2**20, pattern=False)
    changes = {"memory_plan": plan, "memory_answer": answer, "measured_memory": steady}
    report = verdict((), ()).points[0].model_copy(update=changes)

    out = shown(capsys, verdict((), (), points=(report,)))

    assert "memory plan: a first region of 920 MiB, no pattern" in out
    assert "settings that may be chosen; docs/explanation/memory-plans.md" in out
    assert "1920x1088: arena 707 MiB over 5 sessions, in all 715 MiB, modelled" in out
    assert "weights 42 MiB (measured), activations 534 MiB (modelled)" in out
    assert "resting between frames 42 MiB (modelled)" in out
    assert "measured: 600 MiB in use, arena 711 MiB" in out
    assert "context" not in out, "parts of nothing are left out"


def test_release_that_waits_for_room_is_not_shown_like_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    moves = (
        Move("beta", "acme/x", None, "acme/x@2.0.0-d", "keep", "installed, and waits: 100 MiB are free", 4, waits=True),
        Move("stable", "acme/x", None, "acme/x@1.0.0-d", "keep", "golden: worst shot", 3),
    )
    show_plan(Plan(moves=moves, judged=(), generation=None, hold=None, held=frozenset()))

    waits, _, refused, *_ = capsys.readouterr().out.splitlines()

    assert waits == "? beta: waits to change to acme/x@2.0.0-d"
    assert refused == "✗ stable: not changed to acme/x@1.0.0-d"


@pytest.mark.parametrize("metric", [*METRICS, *SUMMARIES], ids=lambda metric: metric.name)
def test_better_is_green_and_worse_is_red_by_the_direction_of_the_metric(metric: Metric) -> None:
    higher, lower = score("owl", metric.name, "0.6", "0.5"), score("owl", metric.name, "0.4", "0.5")
    assert ("[green]" in _cell(higher)) == ("[red]" in _cell(lower)) == metric.higher_is_better
    assert ("[red]" in _cell(higher)) == ("[green]" in _cell(lower)) != metric.higher_is_better


def test_first_verdicts_mad_is_better_where_it_is_lower() -> None:
    assert "[green]" in _cell(score("owl", "mad", "0.1", "0.2"))
    assert "[green]" in _cell(score("owl", "boundary_f", "0.2", "0.1"))
    assert "[dim]" in _cell(score("owl", "mad", "0.1", "0.1"))


def broke(rule: str, actual: str) -> Refused:
    return Refused(check="golden", rule=rule, expected="less", actual=actual, remedy="keep")


def shown_with(capsys: pytest.CaptureFixture[str], findings: tuple[Any, ...], scores: tuple[ShotScore, ...]) -> str:
    """A verdict with these findings at its one operating point, whose shots have aliases."""
    made = verdict(scores, NAMES[:2])
    point = made.points[0].model_copy(update={"findings": findings})
    show_verdict("d" * 64, made.model_copy(update={"points": (point,)}), {"ab0200": "shot-2", "hair": "hair"})
    return capsys.readouterr().out


def test_shots_go_by_their_aliases_with_the_name_beside_it_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    scores = tuple(score(shot, NAMES[0], "0.4", "0.5") for shot in ("ab0200", "hair"))
    out = shown_with(capsys, (), scores)
    assert "shot-2 (ab0200)  0.4000" in out
    assert "hair (hair)" not in out


def test_one_loss_that_breaks_several_guards_is_told_once_and_its_shot_leads_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = (score("hair", NAMES[0], "0.1", "0.5"), score("ab0200", NAMES[0], "0.4", "0.5"))
    out = shown_with(
        capsys,
        (
            broke("worst shot", "shot-2: Jaccard 0.4000, 0.1000 below 0.5000"),
            broke("worst window", "shot-2: Jaccard 0.2000 below it from frame 1001 on"),
            broke("ratchet", "shot-2: Jaccard 0.4000, 0.1000 below 0.5000 of 1.0.0"),
            broke("worst shot", "shot hair: boundary F 0.4000, 0.0400 below 0.4400"),
        ),
        scores,
    )
    assert out.count("found shot-2: Jaccard") == 1
    assert "(broken with it: worst window, ratchet)" in out
    assert "found shot hair: boundary F 0.4000, 0.0400 below 0.4400; keep\n" in out
    assert out.index("shot-2 (ab0200)") < out.index("hair  ")


@pytest.mark.parametrize("broken", [True, False])
def test_metric_of_a_broken_guard_has_a_column(capsys: pytest.CaptureFixture[str], broken: bool) -> None:
    scores = (score("hair", NAMES[0], "0.4", "0.5"), score("hair", "flicker:mean-abs", "0.09", "0.01"))
    findings = (broke("flicker", "shot hair: flicker 0.090000, 9.00 times as much"),) if broken else ()
    assert ("0.0900 (-0.0800)" in shown_with(capsys, findings, scores)) == broken


def test_sign_off_that_is_advised_names_the_verdict_itself(capsys: pytest.CaptureFixture[str]) -> None:
    few = NotRun(
        check="golden",
        rule="few-shots",
        why="too few shots: 3 of 5",
        remedy="add some, or: changeover verdict sign-off DIGEST --name NAME --note NOTE",
    )
    out = shown_with(capsys, (few,), ())
    assert "golden: too few shots: 3 of 5" in out
    assert f"changeover verdict sign-off {'d' * 12} --name NAME --note NOTE" in out


@pytest.mark.parametrize(("channel", "words"), [("show/atlas", "show/atlas"), (None, "CHANNEL")])
def test_promote_line_has_the_channel_that_was_checked(channel: str | None, words: str) -> None:
    line = promote_line(ReleaseRef(model="acme/person-roto", version="1.1.0", digest="a" * 64), channel)
    assert line == f'changeover promote acme/person-roto@1.1.0 --channel {words} --reason "..."'
