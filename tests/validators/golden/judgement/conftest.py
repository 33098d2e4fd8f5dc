"""A small language for scored shots, approved scores and filed verdicts, each made for one question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from changeover_registry.records.findings import Passed
from changeover_registry.records.release import ReleaseRef, Tile
from changeover_registry.records.scores import Curve, ScoreKey, ShotScores, SubjectKey, WorstFrame
from changeover_registry.records.verdict import OperatingPoint, PointReport, ScoresRef, ShotScore, Verdict
from changeover_validators.golden.gates import BOUNDARY_F, JACCARD, MAD
from changeover_validators.golden.ratchet import Best

POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
BASE = {JACCARD: Decimal("0.9"), BOUNDARY_F: Decimal("0.8"), MAD: Decimal("0.02")}
BETTER = {JACCARD: 1, BOUNDARY_F: 1, MAD: -1}


@dataclass(frozen=True)
class Filed:
    """A verdict as the studio reads it."""

    digest: str
    verdict: Verdict


@dataclass(frozen=True)
class Build:
    """Makes values; everything that is not said is such that nothing speaks against it."""

    point: OperatingPoint = POINT

    def score(self, metric: str, candidate: object, current: object | None = None, **changes: Any) -> ShotScore:
        base: dict[str, Any] = {"shot": "s1", "metric": metric, "frames": 12, "candidate": f"{candidate}"}
        return ShotScore(**(base | {"current": None if current is None else f"{current}"} | changes))

    def shots(
        self,
        gains: Sequence[object],
        *,
        only: str | None = None,
        baseline: bool = True,
        base: Mapping[str, Decimal] | None = None,
    ) -> tuple[ShotScore, ...]:
        """One shot for each gain; every metric is better by it (only one of them where `only` says)."""
        found = []
        for number, gain in enumerate(gains, start=1):
            for metric, current in (base or BASE).items():
                change = BETTER[metric] * Decimal(f"{gain}") if only in {None, metric} else Decimal(0)
                now = f"{current:.9f}" if baseline else None
                found.append(self.score(metric, f"{current + change:.9f}", now, shot=f"s{number}"))
        return tuple(found)

    def result(
        self,
        curves: Mapping[tuple[str, str], Sequence[object | None]],
        *,
        frames: Sequence[int] | None = None,
        shot: str = "s1",
        **changes: Any,
    ) -> ShotScores:
        """A filed result with these curves, by metric and subject."""
        count = len(next(iter(curves.values())))
        base: dict[str, Any] = {
            "key": self.key(),
            "set": "main",
            "shot": shot,
            "version": 1,
            "width": 64,
            "height": 48,
            "frames": tuple(frames or range(1001, 1001 + count)),
            "curves": tuple(
                Curve.model_validate(
                    {
                        "metric": metric,
                        "subject": subject,
                        "values": tuple(None if value is None else f"{value}" for value in values),
                    }
                )
                for (metric, subject), values in curves.items()
            ),
            "worst": WorstFrame(frame=1001, x=0, y=0, difference="0"),
            "provider_ran": "cpu",
            "runtime_version": "1.0",
            "sandbox": "bubblewrap",
        }
        return ShotScores(**(base | changes))

    def key(self, name: str = "s1", /, *, release: str = "a", **changes: Any) -> ScoreKey:
        """What a shot's scores depend on; `release` and the shot's name stand for the digests."""
        files = ((release * 64)[:64],)
        base: dict[str, Any] = {
            "shot": f"{int(name[1:]):064x}",
            "candidate": SubjectKey(files=files, contract="c" * 64, point=POINT),
            "threshold": "0.5",
            "metrics": "changeover-metrics/1",
            "golden_class": "d" * 64,
        }
        return ScoreKey(**(base | changes))

    def ref(self, number: int) -> ReleaseRef:
        return ReleaseRef(model="acme/person-roto", version=f"1.{number}.0", digest=f"{number:064x}")

    def best(self, shot: str, metric: str, value: object, number: int = 0) -> Best:
        return Best(shot, metric, f"{value}", self.ref(number), f"{900 + number:064x}")

    def filed(
        self,
        number: int,
        scores: Sequence[ShotScore],
        keys: Mapping[str, ScoreKey],
        *,
        current: int | None = None,
        decision: str = "accept",
        **changes: Any,
    ) -> Filed:
        """A verdict of release `number`, with what its scores depended on."""
        report = PointReport(
            point=POINT,
            golden_class="d" * 64,
            scores=tuple(scores),
            findings=(Passed(check="golden"),),
            scored=tuple(ScoresRef(shot=shot, key=key.digest(), digest="e" * 64) for shot, key in keys.items()),
        )
        base: dict[str, Any] = {
            "candidate": self.ref(number),
            "current": None if current is None else self.ref(current),
            "decision": decision,
            "reason": "because",
            "made_at": "2026-11-22T12:00:00Z",
            "made_by": "td@vm1",
            "host": "vm1",
            "host_class": "a" * 64,
            "facts": "a" * 64,
            "policy": "b" * 64,
            "sandbox": "bubblewrap",
            "findings": (),
            "points": (report,),
        }
        verdict = Verdict(**(base | changes))
        return Filed(verdict.digest(), verdict)


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()
