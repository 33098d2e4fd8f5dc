"""The speed check: seconds a frame of the candidate against the release in use, on the same frames and machine."""

from decimal import Decimal

from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import SpeedPolicy
from changeover_registry.records.verdict import OperatingPoint

__all__ = ["NOISE_US", "check_speed"]

NOISE_US = 5_000
"""A difference of fewer microseconds a frame refuses nobody: the scheduler of a busy machine alone makes as much."""


def check_speed(
    candidate_us: int | None,
    current_us: int | None,
    policy: SpeedPolicy,
    point: OperatingPoint,
    *,
    baseline: bool = False,
) -> Finding:
    """The finding for one operating point: refused above the policy's ratio, if that is more than noise.

    Args:
        candidate_us: Microseconds a frame of the candidate; None where it was not measured.
        current_us: The same of the release in use; None where there is none.
        policy: Holds the largest ratio that is let through.
        point: What was measured.
        baseline: A release is in use, so that a missing `current_us` is a missing measurement.
    """
    subject = str(point)
    if candidate_us is None:
        return NotRun(
            check="speed", subject=subject, why="the candidate's speed was not measured", remedy="run check here"
        )
    if current_us is None and not baseline:
        detail = f"{_milliseconds(candidate_us)} a frame, nothing in use to compare with"
        return NotApplicable(check="speed", subject=subject, rule="no-baseline", detail=detail)
    if not current_us:
        why = "the speed of the release in use was not measured"
        return NotRun(check="speed", subject=subject, why=why, remedy="run check here")
    ratio = Decimal(candidate_us) / Decimal(current_us)
    found = f"{_milliseconds(candidate_us)} a frame against {_milliseconds(current_us)}, {ratio:.2f} times as long"
    if ratio <= Decimal(policy.ratio) or candidate_us - current_us < NOISE_US:
        return Passed(check="speed", subject=subject, detail=found)
    return Refused(
        check="speed",
        subject=subject,
        rule="speed",
        expected=f"at most {policy.ratio} times the time of the release in use",
        actual=found,
        remedy="choose another tile or variant, or raise [speed] ratio in the policy",
    )


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"
