"""The studio of `bench_fleet` as values: three releases of a model, accepted for one class of hosts, and a vendor."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_registry.records.findings import Finding, NotApplicable, Passed
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Tile,
    Variant,
)
from changeover_registry.records.repository import Index, IndexEntry, TrustEntry
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport, Verdict
from changeover_updater.studio import FiledVerdict, Studio, VendorState
from changeover_validators.classes import golden_class_of, host_class

__all__ = ["CLASS", "FACTS", "MODEL", "START", "release_of", "studio_of", "verdict_of"]

START = datetime(2026, 11, 23, 6, 0, 0, tzinfo=UTC)
MODEL = "acme/person-roto"
FACTS = HostFacts(
    host="render",
    os="linux",
    kernel="6.1",
    cpu_level="x86_64_v3",
    cores=16,
    ram_mib=65536,
    gpus=(),
    runtimes=(RuntimeFacts(name="onnxruntime", version="1.23.2", interpreter="/python", providers=("cpu",)),),
)
CLASS = host_class(FACTS)


def release_of(version: str) -> Release:
    file = FileEntry(path="model.onnx", size=3, sha256="a" * 64, blocks=("a" * 64,))
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="x", port="plate", channels=("R", "G", "B")),),
        output=TensorOut(name="y", port="matte"),
        colour="srgb",
        tiles=(Tile(size=0),),
    )
    variant = Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry="model.onnx",
        files=(file,),
        contract=contract,
        requires=Requires(ir_version=8, opset=17, domains=("ai.onnx",), dtypes=("float32",)),
    )
    return Release(
        model=MODEL,
        version=version,
        summary="mattes of people",
        changes="more of them",
        licences=Licences(code="MIT", weights="Apache-2.0", training_data="CC0-1.0"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("R", "G", "B"), colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("A",), colour="raw"),),
        ),
        variants=(variant,),
    )


def verdict_of(release: Release) -> FiledVerdict:
    runtime = RuntimeFacts(name="onnxruntime", version="1.23.2", interpreter="/python", providers=("cpu",))
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
    findings: tuple[Finding, ...] = (
        NotApplicable(check="speed", rule="no-baseline"),
        Passed(check="golden"),
        Passed(check="smoke"),
    )
    report = PointReport(
        point=point,
        golden_class=golden_class_of(FACTS, runtime, "cpu", "fp32"),
        memory=(CurvePoint(width=4096, height=2160, bytes=2**27),),
        findings=findings,
    )
    verdict = Verdict(
        candidate=release.ref(),
        decision="accept",
        reason="every check passed",
        made_at=format_time(START - timedelta(hours=1)),
        made_by="td",
        host="td1",
        host_class=CLASS,
        facts=FACTS.digest(),
        policy="b" * 64,
        sandbox="bubblewrap",
        findings=(Passed(check="hardware"), Passed(check="vram")),
        points=(report,),
    )
    return FiledVerdict(digest=verdict.digest(), verdict=verdict, signer="td")


def studio_of(releases: Sequence[Release], choice: Choice) -> Studio:
    entry = TrustEntry(
        vendor="acme",
        location="/vendor",
        root="c" * 64,
        added_by="td",
        added_at=format_time(START),
        allow_executable=False,
    )
    listed = tuple(
        IndexEntry(version=release.version, record=release.digest(), length=len(release.to_bytes()))
        for release in releases
    )
    index = Index(vendor="acme", name="person-roto", releases=listed)
    vendor = VendorState(entry=entry, indexes=(index,), releases=tuple(releases))
    policy = Policy(hardware=HardwarePolicy(serve_on_cpu=True))
    return Studio(choices=(choice,), vendors=(vendor,), policy=policy, policy_digest="b" * 64)
