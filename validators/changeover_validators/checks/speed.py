"""The speed check: seconds a frame at the studio's plate sizes, first load and host RAM. Pure.

Seconds a frame are compared with the release in use on the same frames and machine, at each size by itself. Two runs of
one pair do not give one ratio, so a ratio refuses only where it lies above the policy's by more than the noise of
measuring (`NOISE_SHARE`), and only after a second measurement said so too (`speed.steadier`). First load
and RAM are held against the policy's own limits where it has any, with and without a release in use. Left out: how it
was measured (`changeover_validators.speed`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import SpeedPolicy
from changeover_registry.records.verdict import OperatingPoint, SpeedPoint

__all__ = ["NOISE_SHARE", "NOISE_US", "SpeedReport", "check_speeds"]

NOISE_US = 5_000
"""A difference of fewer microseconds a frame refuses nobody: the scheduler of a busy machine alone makes as much."""


NOISE_SHARE = Decimal("0.05")
"""How far above the policy's ratio a measured one may lie, as a share of it: repeats of one pair on a machine that does
other things gave 1.47 to 1.50, whose middle is the policy's 1.5, and a coin would have decided."""


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What was measured of one operating point; None where it was not. Bytes are of all processes of the model."""

    speeds: Sequence[SpeedPoint]
    load_us: int | None = None
    peak_ram_bytes: int | None = None


def check_speeds(
    timed: SpeedReport, policy: SpeedPolicy, point: OperatingPoint, *, baseline: bool
) -> tuple[Finding, ...]:
    """The findings of one operating point: everything that is refused or open, or one line that says what was found.

    Args:
        timed: Measured here, candidate and current by turns.
        policy: The largest ratio, and limits of first load and RAM where it has any.
        point: What was measured.
        baseline: A release is in use, so that a missing time of it is a missing measurement.
    """
    against = (*_frames(timed, policy, baseline=baseline), *_load(timed, policy), *_ram(timed, policy))
    found = tuple(finding.model_copy(update={"subject": str(point)}) for finding in against)
    return found or (_fine(timed, str(point), baseline=baseline),)


def _frames(timed: SpeedReport, policy: SpeedPolicy, *, baseline: bool) -> Iterator[Refused | NotRun]:
    if not timed.speeds:
        yield _not_measured("the candidate's seconds a frame were not measured")
    for speed in timed.speeds:
        size = f"{speed.width} x {speed.height}"
        if not baseline:
            continue
        if not speed.current_us:
            yield _not_measured(f"the release in use was not measured at {size}")
        elif _too_slow(speed.candidate_us, speed.current_us, policy):
            yield _refused(
                "speed",
                f"at most {policy.ratio} times the time of the release in use, and {NOISE_SHARE:.0%} for the noise of "
                "measuring, at every plate size",
                f"{size}: {_compared(speed)}",
                "choose another tile or variant, or raise [speed] ratio in the policy",
            )


def _too_slow(candidate_us: int, current_us: int, policy: SpeedPolicy) -> bool:
    slower = Decimal(candidate_us) > Decimal(policy.ratio) * (1 + NOISE_SHARE) * current_us
    return slower and candidate_us - current_us >= NOISE_US


def _load(timed: SpeedReport, policy: SpeedPolicy) -> Iterator[Refused | NotRun]:
    if policy.first_load_ms is None:
        return
    if timed.load_us is None:
        yield _not_measured("the first load was not measured, and the policy limits it")
    elif timed.load_us > policy.first_load_ms * 1000:
        yield _refused(
            "first load",
            f"at most {policy.first_load_ms} ms until the model is ready",
            _milliseconds(timed.load_us),
            "choose another variant, or raise [speed] first_load_ms in the policy",
        )


def _ram(timed: SpeedReport, policy: SpeedPolicy) -> Iterator[Refused | NotRun]:
    if policy.ram_mib is None:
        return
    if timed.peak_ram_bytes is None:
        yield _not_measured("the host RAM was not measured, and the policy limits it")
    elif timed.peak_ram_bytes > policy.ram_mib * 2**20:
        yield _refused(
            "RAM",
            f"at most {policy.ram_mib} MiB of host RAM",
            f"{timed.peak_ram_bytes / 2**20:.0f} MiB",
            "choose another tile or variant, or raise [speed] ram_mib in the policy",
        )


def _fine(timed: SpeedReport, subject: str, *, baseline: bool) -> Finding:
    listed = "; ".join(f"{speed.width} x {speed.height}: {_compared(speed)}" for speed in timed.speeds)
    if baseline:
        return Passed(check="speed", subject=subject, detail=listed)
    detail = f"{listed}; nothing in use to compare with"
    return NotApplicable(check="speed", subject=subject, rule="no-baseline", detail=detail)


def _compared(speed: SpeedPoint) -> str:
    alone = f"{_milliseconds(speed.candidate_us)} a frame"
    if not speed.current_us:
        return alone
    ratio = Decimal(speed.candidate_us) / Decimal(speed.current_us)
    return f"{alone} against {_milliseconds(speed.current_us)}, {ratio:.3f} times as long"


def _not_measured(why: str) -> NotRun:
    return NotRun(check="speed", why=why, remedy="run check here")


def _refused(rule: str, expected: str, actual: str, remedy: str) -> Refused:
    return Refused(check="speed", rule=rule, expected=expected, actual=actual, remedy=remedy)


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"
