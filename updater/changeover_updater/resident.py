"""What the release in use takes of memory, by the verdicts that were signed of it. Pure.

Nodes hold it while they move to another release, so it counts beside the one that comes. Its memory is taken from the
newest verdict that tells it, at the operating point that nodes prefer.
"""

from collections.abc import Iterable

from changeover_registry.records.base import Unknown
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release
from changeover_updater.studio import FiledVerdict
from changeover_validators.checks.vram import footprint_at
from changeover_validators.fits import rank
from changeover_validators.vram.footprint import Footprint

__all__ = ["resident"]


def resident(
    baseline: Release | None, verdicts: Iterable[FiledVerdict], policy: Policy, provider: str
) -> Footprint | Unknown | None:
    """What one instance of `baseline` takes on `provider`: None without a baseline, unknown without a verdict of it."""
    if baseline is None:
        return None
    ref = baseline.ref()
    for filed in verdicts:
        if filed.verdict.candidate != ref:
            continue
        reports = [report for report in filed.verdict.points if report.point.provider == provider]
        for report in sorted(reports, key=lambda one: (not one.findings, rank(one.point))):
            found = footprint_at(report, policy)
            if found is not None:
                return found
    return Unknown(unknown=f"no verdict tells what {ref} takes")
