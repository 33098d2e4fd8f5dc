"""How a verdict is shown: the gated metrics of each shot, the worst first, better and worse by the catalogue."""

from typing import Any

import pytest

from changeover_registry.records.release import ReleaseRef, Tile
from changeover_registry.records.verdict import MetricSummary, OperatingPoint, PointReport, ShotScore, SignOff, Verdict
from changeover_updater.cli._show_plan import _cell, show_verdict
from changeover_validators.golden.catalogue import METRICS, SUMMARIES, Metric

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
    assert out.count("(-0.1000)") == 3


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
    assert "0.1000 (-0.1000)" in out


def test_sign_off_stands_at_the_top(capsys: pytest.CaptureFixture[str]) -> None:
    word = SignOff(of="f" * 64, name="Ada Lovelace", note="as good", by="sup", at="2026-11-22T12:00:00Z")
    out = shown(capsys, verdict((), (), sign_off=word))
    assert "signed off by Ada Lovelace, 2026-11-22T12:00:00Z, of verdict ffffffffffff: as good" in out


@pytest.mark.parametrize("metric", [*METRICS, *SUMMARIES], ids=lambda metric: metric.name)
def test_better_is_green_and_worse_is_red_by_the_direction_of_the_metric(metric: Metric) -> None:
    higher, lower = score("owl", metric.name, "0.6", "0.5"), score("owl", metric.name, "0.4", "0.5")
    assert ("[green]" in _cell(higher)) == ("[red]" in _cell(lower)) == metric.higher_is_better
    assert ("[red]" in _cell(higher)) == ("[green]" in _cell(lower)) != metric.higher_is_better


def test_first_verdicts_mad_is_better_where_it_is_lower() -> None:
    assert "[green]" in _cell(score("owl", "mad", "0.1", "0.2"))
    assert "[green]" in _cell(score("owl", "boundary_f", "0.2", "0.1"))
    assert "[dim]" in _cell(score("owl", "mad", "0.1", "0.1"))
