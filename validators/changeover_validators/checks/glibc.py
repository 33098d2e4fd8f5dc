"""Whether a Linux has the C library that a runtime's wheel asks for."""

from collections.abc import Iterable

from packaging.version import InvalidVersion
from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_validators.checks.cuda import build_of
from changeover_validators.checks.reasons import Broken, Open, Problem, Reason
from changeover_validators.devices import look

__all__ = ["check_glibc"]


def check_glibc(runtime: RuntimeFacts, facts: HostFacts) -> Iterable[Problem]:
    """What speaks against the wheel of that release here; nothing on a host with another system or C library."""
    build = build_of(runtime, facts.os)
    if facts.os != "linux" or build is None or build.glibc is None or facts.glibc is None:
        return
    evidence = ("fact glibc", build.row)
    if isinstance(facts.glibc, Unknown):
        why = f"the glibc of this host is unknown: {facts.glibc.unknown}"
        yield Open(Reason.GLIBC_UNKNOWN, why, look(facts.glibc), evidence)
    elif _older(facts.glibc, build.glibc):
        expected = f"glibc {build.glibc} or newer, for the wheel of {runtime.name} {runtime.version}"
        remedy = "use a newer system, or an older release of the runtime"
        yield Broken(Reason.GLIBC_TOO_OLD, "glibc", expected, f"glibc {facts.glibc}", remedy, evidence)


def _older(version: str, than: str) -> bool:
    try:
        return PackageVersion(version) < PackageVersion(than)
    except InvalidVersion:
        return False
