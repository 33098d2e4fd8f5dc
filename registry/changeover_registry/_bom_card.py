"""The model card in a bill of materials, as CycloneDX's schema says it: what goes in and out, what was measured.

Plain JSON made of records; the official library has no class for it. A verdict's results are the studio's, and are told
by the aliases of its golden shots: whoever makes `Results` has put them in the places of the names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from changeover_registry.records.release import Contract, Interface, Release
from changeover_registry.records.verdict import MetricSummary, PointReport, ShotScore, Verdict

__all__ = ["Results", "model_card"]


@dataclass(frozen=True, slots=True)
class Results:
    """What a studio found: a verdict whose shots go by their aliases, and the digest of its signed envelope."""

    verdict: Verdict
    envelope: str


def model_card(release: Release, results: Results | None) -> dict[str, Any]:
    """The model card of a release, with the results of a verdict on it where there are some."""
    card: dict[str, Any] = {
        "modelParameters": _parameters(release.interface),
        "considerations": {
            "useCases": [release.summary],
            "technicalLimitations": [f"{variant.id}: {_limits(variant.contract)}" for variant in release.variants],
        },
    }
    if results is not None:
        metrics = [metric for report in results.verdict.points for metric in _metrics(report, results.verdict)]
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
        card["properties"] = [{"name": f"changeover:{name}", "value": text} for name, text in _facts(results)]
    return card


def _parameters(interface: Interface) -> dict[str, Any]:
    return {
        "task": "image-matting",
        "inputs": [{"format": _port(port.channels, port.colour)} for port in interface.inputs],
        "outputs": [{"format": _port(port.channels, port.colour)} for port in interface.outputs],
    }


def _port(channels: tuple[str, ...], colour: str) -> str:
    return f"image ({', '.join(channels)}; {colour})"


def _limits(contract: Contract) -> str:
    size = f"frames of {contract.resize[0]} x {contract.resize[1]} pixels" if contract.resize else "frames of any size"
    tiles = ", ".join(str(tile) for tile in contract.tiles)
    remembers = "every frame by itself" if contract.evaluation == "stateless" else "frames in their order"
    return f"{remembers}; {size}, tiles {tiles}; {contract.colour} values"


def _metrics(report: PointReport, verdict: Verdict) -> Iterator[dict[str, Any]]:
    """Every number of one operating point: of each shot, over the shots, and the time of a frame."""
    point = str(report.point)
    for score in report.scores:
        yield from _of_shot(score, point)
    for summary in report.metrics:
        yield _over_shots(summary, point, verdict)
    for speed in report.speeds or ():
        slice_of = f"{speed.width}x{speed.height}"
        yield {"type": f"microseconds a frame at {point}", "value": str(speed.candidate_us), "slice": slice_of}


def _of_shot(score: ShotScore, point: str) -> Iterator[dict[str, Any]]:
    yield {"type": f"{score.metric} at {point}", "value": score.candidate, "slice": score.shot}
    if score.current is not None:
        yield {"type": f"{score.metric} of the current release at {point}", "value": score.current, "slice": score.shot}


def _over_shots(summary: MetricSummary, point: str, verdict: Verdict) -> dict[str, Any]:
    """The mean gain over the current release, with its one-sided bounds of 95 % each where there were enough shots."""
    used = verdict.golden_set
    found: dict[str, Any] = {
        "type": f"gain in {summary.metric} at {point}",
        "value": summary.mean,
        "slice": f"all {summary.shots} shots" + (f" of {used.name}" if used else ""),
    }
    bounds = {"lowerBound": summary.lower, "upperBound": summary.upper}
    interval = {name: bound for name, bound in bounds.items() if bound is not None}
    return {**found, "confidenceInterval": interval} if interval else found


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    """What the numbers belong to, and the memory at each operating point in bytes."""
    verdict, used = results.verdict, results.verdict.golden_set
    yield "verdict.decision", verdict.decision
    yield "verdict.envelope", results.envelope
    yield "verdict.made-at", verdict.made_at
    yield "verdict.policy", verdict.policy
    yield "verdict.current", str(verdict.current or "none")
    if used is not None:
        yield "verdict.golden-set", f"{used.name} {used.version} sha256 {used.digest}"
    for report in verdict.points:
        if report.golden_class is not None:
            yield f"golden-class at {report.point}", report.golden_class
        for at in report.memory:
            yield f"vram.{report.memory_label}-bytes at {report.point} {at.width}x{at.height}", str(at.bytes)
