"""A small language for situations: releases, verdicts, choices and stations as values, each made for one question."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice, Entry, Override, Pin, Pointer
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import CheckName, Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    ReleaseRef,
    Requires,
    TensorIn,
    TensorOut,
    Tile,
    Variant,
)
from changeover_registry.records.repository import Index, IndexEntry, TrustEntry, Withdrawal
from changeover_registry.records.station import Generation, Hold
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport, Verdict
from changeover_updater.eligible import Candidate
from changeover_updater.permission import Case
from changeover_updater.plan import Known
from changeover_updater.studio import FiledVerdict, Studio, VendorState
from changeover_validators.classes import golden_class_of, host_class

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
PLATE = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
MATTE = Port(name="matte", channels=("A",), colour="raw")


@dataclass(frozen=True)
class Build:
    """Makes values; everything that is not said is such that nothing speaks against it."""

    now: datetime = NOW
    policy_digest: str = "b" * 64

    @property
    def policy(self) -> Policy:
        return Policy(hardware=HardwarePolicy(serve_on_cpu=True))

    def after(self, **span: float) -> str:
        """A moment after now, or before it, as text."""
        return format_time(self.now + timedelta(**span))

    def facts(self, **changes: Any) -> HostFacts:
        """A host without a GPU, with onnxruntime on its CPU."""
        runtime = RuntimeFacts(name="onnxruntime", version="1.23.2", interpreter="/python", providers=("cpu",))
        base: dict[str, Any] = {
            "host": "vm1",
            "os": "linux",
            "kernel": "6.1",
            "cpu_level": "x86_64_v3",
            "cores": 2,
            "ram_mib": 16384,
            "gpus": (),
            "runtimes": (runtime,),
        }
        return HostFacts(**(base | changes))

    def nuke(self, version: str = "15.1v3", torch: str = "2.1.1") -> NukeInstall:
        return NukeInstall(version=version, torch_line=torch)

    def variant(self, **changes: Any) -> Variant:
        entry = changes.get("entry", "model.onnx")
        base: dict[str, Any] = {
            "id": "onnx-fp32",
            "runtime": "onnx",
            "precision": "fp32",
            "loaders": ("python", "mlserver"),
            "entry": entry,
            "files": (FileEntry(path=entry, size=3, sha256="a" * 64, blocks=("a" * 64,)),),
            "contract": Contract(
                evaluation="stateless",
                inputs=(TensorIn(name="x", port="plate", channels=("R", "G", "B")),),
                output=TensorOut(name="y", port="matte"),
                colour="srgb",
                tiles=(Tile(size=0), Tile(size=1024, overlap=64)),
            ),
            "requires": Requires(ir_version=8, opset=17, domains=("ai.onnx",), dtypes=("float32",)),
        }
        return Variant(**(base | changes))

    def cat(self, **changes: Any) -> Variant:
        """An opaque .cat for Nuke."""
        base = {"id": "nuke-cat-torch2.1", "runtime": "nuke-cat", "entry": "Roto.cat", "loaders": ("nuke-inference",)}
        return self.variant(**(base | {"requires": Requires(torch_line="2.1.1")} | changes))

    def release(self, version: str = "1.0.0", **changes: Any) -> Release:
        base: dict[str, Any] = {
            "model": "acme/person-roto",
            "version": version,
            "summary": "mattes of people",
            "changes": "first",
            "licences": Licences(code="MIT", weights="Apache-2.0", training_data="LicenseRef-Acme"),
            "interface": Interface(inputs=(PLATE,), outputs=(MATTE,)),
            "variants": (self.variant(),),
        }
        return Release(**(base | changes))

    def passed(self, check: CheckName, subject: str = "") -> Passed:
        return Passed(check=check, subject=subject, detail=f"{check} is fine")

    def refused(self, check: CheckName, subject: str = "") -> Refused:
        return Refused(check=check, subject=subject, rule="rule", expected="this", actual="that", remedy="mend it")

    def not_run(self, check: CheckName, subject: str = "", *, error: bool = False) -> NotRun:
        return NotRun(check=check, subject=subject, why="nobody tried", remedy="try", error=error)

    def spared(self, check: CheckName, rule: Any = "earlier-check-refused") -> NotApplicable:
        return NotApplicable(check=check, rule=rule)

    def point(self, release: Release, tile: int = 0, *, variant: int = 0, provider: str = "cpu") -> OperatingPoint:
        chosen = release.variants[variant]
        return OperatingPoint(
            variant=chosen.id,
            precision=chosen.precision,
            tile=chosen.contract.tiles[tile],
            provider=provider,
        )

    def report(
        self, release: Release, findings: tuple[Finding, ...] | None = None, *, tile: int = 0, **changes: Any
    ) -> PointReport:
        """One operating point as this host's check would report it: everything passed, unless findings are given."""
        point = self.point(release, tile, variant=changes.pop("variant", 0))
        facts = changes.pop("facts", self.facts())
        base: dict[str, Any] = {
            "point": point,
            "golden_class": golden_class_of(facts, facts.runtimes[0], point.provider, point.precision),
            "memory": (CurvePoint(width=4096, height=2160, bytes=2**27),),
            "findings": (self.spared("speed", "no-baseline"), self.passed("golden"), self.passed("smoke"))
            if findings is None
            else findings,
        }
        return PointReport(**(base | changes))

    def verdict(self, release: Release, decision: str = "accept", **changes: Any) -> FiledVerdict:
        """A filed verdict; accepted on every operating point unless changed."""
        reports = tuple(self.report(release, tile=n) for n in range(len(release.variants[0].contract.tiles)))
        base: dict[str, Any] = {
            "candidate": release.ref(),
            "decision": decision,
            "reason": "because",
            "made_at": format_time(self.now - timedelta(hours=1)),
            "made_by": "td@vm1",
            "host": "vm1",
            "host_class": host_class(self.facts()),
            "facts": self.facts().digest(),
            "policy": self.policy_digest,
            "sandbox": "bubblewrap",
            "findings": (self.passed("hardware"), self.passed("vram")),
            "points": reports,
        }
        verdict = Verdict(**(base | changes))
        return FiledVerdict(digest=verdict.digest(), verdict=verdict, signer="td@vm1")

    def override(self, release: Release, *checks: CheckName, until: str | None = None) -> Override:
        return Override(
            release=release.ref(), checks=checks, reason="known", by="td", until=until or self.after(days=1)
        )

    def vendor(self, *releases: Release, withdrawn: dict[str, str] | None = None, **changes: Any) -> VendorState:
        """A trusted vendor whose valid metadata lists these releases."""
        name = changes.pop("name", "acme")
        entry = TrustEntry(
            vendor=name,
            location="/vendor",
            root="c" * 64,
            allow_executable=changes.pop("allow_executable", False),
            added_by="td",
            added_at=format_time(self.now),
        )
        gone = withdrawn or {}
        models = sorted({release.model for release in releases})
        indexes = tuple(
            Index(
                vendor=name,
                name=model.partition("/")[2],
                releases=tuple(self._indexed(r, gone.get(r.version)) for r in releases if r.model == model),
            )
            for model in models
        )
        return replace(VendorState(entry=entry, indexes=indexes, releases=releases), **changes)

    def _indexed(self, release: Release, why: str | None) -> IndexEntry:
        return IndexEntry(
            version=release.version,
            record=release.digest(),
            length=len(release.to_bytes()),
            withdrawn=Withdrawal(why=why, when=format_time(self.now)) if why else None,
        )

    def candidate(self, release: Release, **changes: Any) -> Candidate:
        """A release that was accepted on this host."""
        base = Candidate(
            release=release,
            vendor=self.vendor(release),
            baseline=None,
            verdicts=(self.verdict(release),),
            overrides=(),
            facts=self.facts(),
            policy=self.policy,
            now=self.now,
        )
        return replace(base, **changes)

    def case(self, release: Release, **changes: Any) -> Case:
        """A promotion of a release that was accepted."""
        base = Case(
            release=release,
            findings=(self.passed("trust"), self.passed("licence"), self.passed("format"), self.passed("interface")),
            verdicts=(self.verdict(release),),
            overrides=(),
            policy=self.policy,
            policy_digest=self.policy_digest,
            baseline=None,
            now=self.now,
        )
        return replace(base, **changes)

    def entry(self) -> Entry:
        return Entry(who="td", when=format_time(self.now), why="test", what="test")

    def choice(
        self,
        channels: dict[str, Release | ReleaseRef] | None = None,
        *,
        scope: str = "site",
        pins: tuple[Pin, ...] = (),
        overrides: tuple[Override, ...] = (),
    ) -> Choice:
        pointers = tuple(
            Pointer(channel=name, release=r.ref() if isinstance(r, Release) else r)
            for name, r in (channels or {}).items()
        )
        return Choice(scope=scope, number=1, entry=self.entry(), channels=pointers, pins=pins, overrides=overrides)

    def pin(self, release: Release, show: str | None = None, sequence: str | None = None) -> Pin:
        return Pin(release=release.ref(), show=show, sequence=sequence, reason="delivered")

    def known(
        self,
        *choices: Choice,
        vendors: tuple[VendorState, ...] = (),
        verdicts: tuple[FiledVerdict, ...] = (),
        **changes: Any,
    ) -> Known:
        """A station that has nothing yet."""
        studio = Studio(choices=choices, vendors=vendors, policy=self.policy, policy_digest=self.policy_digest)
        base = Known(
            studio=studio,
            verdicts=verdicts,
            facts=self.facts(),
            station="vm1",
            site="/site",
            current=None,
            latest=None,
            next_number=1,
            hold=None,
            now=self.now,
        )
        return replace(base, **changes)

    def applied(self, known: Known, generation: Generation | None) -> Known:
        """The world after a station changed over to a generation."""
        if generation is None:
            return known
        return replace(known, current=generation, latest=generation, next_number=generation.number + 1)

    def hold(self, until: str | None = None) -> Hold:
        return Hold(by="td", why="rendering", since=format_time(self.now), until=until)


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()
