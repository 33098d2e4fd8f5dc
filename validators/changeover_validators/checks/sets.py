"""Which of the tested runtime sets a host should have: the extras ``cuda12`` and ``cuda13``, by its driver and GPUs.

Every release of a set is tried as if it were installed, the newest first, under the rules of the hardware check. A set
that runs as it is comes before one whose code the driver must compile, the newer toolkit before the older. No set is
put in anybody's place: what is installed and runs goes on.
"""

from dataclasses import dataclass

from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_validators import tables
from changeover_validators.checks.cuda import check_cuda
from changeover_validators.checks.glibc import check_glibc
from changeover_validators.checks.reasons import Broken, Cost, Open, Problem, Reason
from changeover_validators.devices import look, nuke_gpus

__all__ = ["Advice", "Tried", "right_set"]


_CONSTRAINTS = {"cuda12": "constraints-cuda12.txt", "cuda13": "constraints.txt"}


@dataclass(frozen=True, slots=True)
class Tried:
    """One set with the release of it that suits best, and what speaks against it or what it costs."""

    name: str
    release: str
    newest: bool
    problems: tuple[Problem, ...]

    @property
    def requirement(self) -> str:
        """What pip is given: the extra under its constraints, or with the release where the newest does not suit.

        The constraints pin the newest release of the set, so pip would refuse them beside another.
        """
        wanted = f"'changeover[run,{self.name}]'"
        if not self.newest:
            return f"{wanted} 'onnxruntime-gpu=={self.release}'"
        return f"-c {_CONSTRAINTS[self.name]} {wanted}"


@dataclass(frozen=True, slots=True)
class Advice:
    """The set for a host, or why there is none; `tried` has every set, the newest toolkit first."""

    name: str | None
    why: str
    tried: tuple[Tried, ...] = ()

    @property
    def chosen(self) -> Tried | None:
        """The set that is named, as it was tried."""
        return next((one for one in self.tried if one.name == self.name), None)

    @property
    def undecided(self) -> bool:
        """Whether a set may suit, and a fact is missing to say so."""
        return self.name is None and any(_rank(one) == _RANKS[Open] for one in self.tried)


_RANKS: dict[type[Problem], int] = {Cost: 1, Open: 2, Broken: 3}


def right_set(facts: HostFacts) -> Advice:
    """The set for this driver and these GPUs."""
    gpus = nuke_gpus(facts)
    if isinstance(gpus, Unknown):
        return Advice(None, f"the GPUs of this host are unknown: {gpus.unknown}", (_unseen(gpus),))
    if not gpus:
        return Advice(None, "no GPU on this host: the extra run alone serves on the CPU")
    tried = tuple(_best(one, facts) for one in reversed(tables.runtime_sets()))
    best = min(tried, key=_rank)
    if _rank(best) >= _RANKS[Open]:
        reasons = "; ".join(f"{one.name}: {_reason(one)}" for one in tried)
        return Advice(None, f"no set suits this driver and these GPUs: {reasons}", tried)
    cards = ", ".join(sorted({gpu.name for gpu in gpus}))
    return Advice(best.name, f"driver {facts.driver} and {cards} run onnxruntime-gpu {best.release}", tried)


def _best(wanted: tables.RuntimeSet, facts: HostFacts) -> Tried:
    """The newest release of the set with the least against it."""
    known = [row["version"] for row in tables.rows("onnxruntime")["gpu"] if row["version"] in wanted.onnxruntime]
    newest_first = sorted(known, key=PackageVersion, reverse=True)
    tried = [Tried(wanted.name, v, v == newest_first[0], _problems(v, facts)) for v in newest_first]
    return min(tried, key=_rank)


def _problems(version: str, facts: HostFacts) -> tuple[Problem, ...]:
    runtime = RuntimeFacts(
        name="onnxruntime", version=version, interpreter="a new environment", providers=("cuda", "cpu")
    )
    return (*check_glibc(runtime, facts), *check_cuda(runtime, facts))


def _rank(one: Tried) -> int:
    return max((_RANKS[type(problem)] for problem in one.problems), default=0)


def _reason(one: Tried) -> str:
    """What speaks most against it."""
    worst = max(one.problems, key=lambda problem: _RANKS[type(problem)])
    if isinstance(worst, Broken):
        return f"{worst.rule}: expected {worst.expected}, found {worst.actual}"
    return worst.why if isinstance(worst, Open) else worst.detail


def _unseen(gpus: Unknown) -> Tried:
    problem = Open(Reason.GPUS_UNKNOWN, gpus.unknown, look(gpus), ("fact gpus",))
    return Tried("any", "any", newest=False, problems=(problem,))
