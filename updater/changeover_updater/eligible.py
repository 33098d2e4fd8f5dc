"""Which variant of a release each loader of a host gets, and why every other one was passed over. Pure.

Checks 1 to 5 are evaluated here on the host's facts; memory is the verdict's curve against this host's budget by
arithmetic; speed and golden shots are looked up in the signed verdicts by operating point and golden class. What is
not found is not run; nothing is inferred. An override passes over the checks that it names, never over trust.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from changeover_registry.clock import parse_time
from changeover_registry.errors import UndecidedError
from changeover_registry.names import release_folder
from changeover_registry.records.choice import Override
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.findings import CheckName, Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Loader, Release, ReleaseRef, Tile, Variant
from changeover_registry.records.station import Answer, InstalledFile
from changeover_registry.records.verdict import OperatingPoint, PointReport
from changeover_updater.resident import resident
from changeover_updater.show_terms import ShowTerms, check_client_approval
from changeover_updater.sign_off import holding
from changeover_updater.studio import FiledVerdict, VendorState
from changeover_validators.checks.format import check_format
from changeover_validators.checks.hardware import check_hardware, check_nuke, providers_for, runtime_for
from changeover_validators.checks.interface import check_interface
from changeover_validators.checks.licence import check_licence
from changeover_validators.checks.twin import embedded_runtime
from changeover_validators.checks.vram import GO, Gate, changeover_gate, check_vram, footprint_at
from changeover_validators.classes import golden_class_of
from changeover_validators.fits import memory_of, preference, rank
from changeover_validators.vram.footprint import Footprint

__all__ = [
    "WITHDRAWAL",
    "Candidate",
    "Eligible",
    "PassedOver",
    "answered",
    "blocking",
    "describe",
    "is_withdrawal",
    "judge_release",
    "overridden",
    "pin_words",
    "release_findings",
    "stands_by",
]

WITHDRAWAL: CheckName = "withdrawal"
_WITHDRAWN = "withdrawn"
LOADERS: tuple[Loader, ...] = ("nuke-inference", "mlserver", "flame", "python")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release and all that its eligibility at one host depends on.

    `baseline` is what it would take the place of. `named` is the verdict that the signed choice names for it: a later
    check against something else, for another channel, does not undo what the promoters signed. `terms` are those of the
    show that it was chosen for, if it was one. `pinned` is one that a pin names and no channel.
    """

    release: Release
    vendor: VendorState
    baseline: Release | None
    verdicts: tuple[FiledVerdict, ...]
    overrides: tuple[Override, ...]
    facts: HostFacts
    policy: Policy
    now: datetime
    named: str | None = None
    terms: ShowTerms | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class PassedOver:
    """One variant that a loader does not get, and why, in one line a finding."""

    loader: Loader
    nuke_line: str | None
    variant: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Eligible:
    """What a host may load of a release. `findings` concern the release as a whole."""

    ref: ReleaseRef
    release: Release
    findings: tuple[Finding, ...]
    answers: tuple[Answer, ...]
    passed_over: tuple[PassedOver, ...]
    overridden: tuple[CheckName, ...]
    gate: Gate = GO
    """Whether a session that is opened at this moment could load what its loader gets."""

    @property
    def accepted(self) -> bool:
        """Whether at least one loader gets a variant and nothing speaks against the release as a whole."""
        return not blocking(self.findings) and any(answer.path for answer in self.answers)

    @property
    def refused(self) -> bool:
        """Whether a rule says no, as against nobody having said yes."""
        return any(isinstance(finding, Refused) for finding in self.reasons())

    def reasons(self) -> tuple[Finding, ...]:
        """Every finding that speaks against the release here."""
        of_variants = (f for passed in self.passed_over for f in blocking(passed.findings))
        return tuple(dict.fromkeys((*blocking(self.findings), *of_variants)))

    def memory_plan(self, variant: str) -> MemoryPlan | None:
        """The settings with which a loader gets a variant at its preferred tile; None: the runtime's own."""
        plans = (a.memory_plans[0] for a in self.answers if a.variant == variant and a.memory_plans)
        return next(plans, None)

    def chosen(self) -> tuple[Variant, ...]:
        """The variants that some loader gets, each once, in the record's order."""
        ids = {answer.variant for answer in self.answers if answer.path}
        return tuple(variant for variant in self.release.variants if variant.id in ids)


def judge_release(candidate: Candidate) -> Eligible:
    """Decide what a host gets of a release."""
    passes = overridden(candidate.overrides, candidate.now)
    show = candidate.terms.show if candidate.terms else None
    release = release_findings(candidate.release, candidate.vendor, candidate.baseline, candidate.policy, show)
    client = check_client_approval(candidate.release.ref(), candidate.terms, candidate.policy)
    pin = pin_words(candidate.release, show) if candidate.pinned else None
    findings = _pass_over(stands_by((*release, *client), passes, pin), passes)
    answers: list[Answer] = []
    passed: list[PassedOver] = []
    for loader, nuke in _callers(candidate):
        answer, over = _answer(candidate, loader, nuke, passes)
        answers.append(answer)
        passed.extend(over)
    gate = GO if "vram" in passes else _gate(candidate, tuple(answers))
    return Eligible(candidate.release.ref(), candidate.release, findings, tuple(answers), tuple(passed), passes, gate)


def _gate(candidate: Candidate, answers: tuple[Answer, ...]) -> Gate:
    """The go or no-go on free memory, for what takes most of the GPU among what the loaders get."""
    found = [_served_footprint(candidate, answer) for answer in answers if answer.path]
    needed = max((one for one in found if one is not None), key=lambda one: one.one_bytes, default=None)
    old = resident(candidate.baseline, candidate.verdicts, candidate.policy, "cuda")
    given_back = old if candidate.policy.vram.changeover == "unload-first" else None
    return changeover_gate(candidate.facts, needed, given_back if isinstance(given_back, Footprint) else None)


def _served_footprint(candidate: Candidate, answer: Answer) -> Footprint | None:
    """What a loader's preferred operating point takes of the GPU, by the verdict that speaks of it."""
    nuke = next((nuke for nuke in candidate.facts.nukes if nuke.line == answer.nuke_line), None)
    variant = candidate.release.variant(str(answer.variant))
    points = _points(candidate, variant) if variant else ()
    served = next((p for p in points if str(p.tile) in answer.tiles and p.provider == "cuda"), None)
    report = _report(candidate, variant, served, nuke) if variant and served else None
    return footprint_at(report, candidate.policy) if report else None


def overridden(overrides: Iterable[Override], now: datetime) -> tuple[CheckName, ...]:
    """The checks that overrides pass over at this moment; trust is never among them."""
    live = [o for o in overrides if now < parse_time(o.until)]
    return tuple(dict.fromkeys(check for o in live for check in o.checks if check != "trust"))


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that keep something from being used: refused and not run."""
    return tuple(finding for finding in findings if isinstance(finding, (Refused, NotRun)))


def stands_by(findings: Iterable[Finding], passes: tuple[CheckName, ...], pin: str | None) -> tuple[Finding, ...]:
    """The findings, of which a withdrawal stops no pin where an override says so: for shots delivered with the release.

    No channel comes to what its vendor took back, whatever is overridden. `pin` is `pin_words` where a pin, and no
    channel, asks.
    """
    return tuple(_of_pin(f, passes, pin) if pin and is_withdrawal(f) else f for f in findings)


def pin_words(release: Release, show: str | None) -> str:
    """What a command says of a pin: ``MODEL@VERSION``, and the show that it is of."""
    return f"{release.model}@{release.version}" + (f" --show {show}" if show else "")


def is_withdrawal(finding: Finding) -> bool:
    """Whether a finding says that the vendor took the release back."""
    return isinstance(finding, Refused) and finding.check == "trust" and finding.rule == _WITHDRAWN


def _of_pin(finding: Finding, passes: tuple[CheckName, ...], pin: str) -> Finding:
    if WITHDRAWAL in passes:
        return NotApplicable(check=finding.check, subject=finding.subject, rule="overridden", detail=describe(finding))
    remedy = f"pin another release, or for shots that were delivered with it: changeover override add {pin}"
    return finding.model_copy(update={"remedy": f"{remedy} --check {WITHDRAWAL} --reason ... --until ..."})


def answered(check: CheckName, findings: Iterable[Finding]) -> bool:
    """Whether findings answer a check, one way or the other; what was spared or passed over is no answer.

    Golden shots are never out of the question: without a baseline the floors and guards still pass or do not.
    """
    mine = [finding for finding in findings if finding.check == check]
    not_concerned = {f.rule for f in mine if isinstance(f, NotApplicable)} - {"earlier-check-refused", "overridden"}
    return any(not isinstance(f, NotApplicable) for f in mine) or (check != "golden" and bool(not_concerned))


def release_findings(
    release: Release, vendor: VendorState, baseline: Release | None, policy: Policy, show: str | None = None
) -> tuple[Finding, ...]:
    """Checks 1 to 4, from records alone; `show` is for which one it is chosen, if for one."""
    return (
        _trust(vendor.withdrawn(release.ref())),
        *_adopted_elsewhere(release, vendor),
        *check_licence(release, policy, show),
        *check_format(release, vendor.entry.allow_executable),
        *check_interface(release, baseline),
    )


def _trust(withdrawn: str | None) -> Finding:
    if withdrawn is None:
        return Passed(check="trust", detail="signed by the vendor, and the record's digest is the one in its index")
    return Refused(
        check="trust",
        rule=_WITHDRAWN,
        expected="a release that its vendor stands by",
        actual=f"withdrawn by the vendor: {withdrawn}",
        remedy="promote another release",
    )


def _adopted_elsewhere(release: Release, vendor: VendorState) -> tuple[Finding, ...]:
    """A refusal of what calls itself adopted and is not this studio's own: it would be asked for nothing."""
    if release.adopted is None or vendor.entry.local:
        return ()
    return (
        Refused(
            check="trust",
            rule="adopted elsewhere",
            expected="a release that this studio adopted itself",
            actual=f"one that {vendor.entry.vendor} says was adopted from {release.adopted.source}",
            remedy="ask the vendor for a release that is its own",
        ),
    )


def _callers(candidate: Candidate) -> list[tuple[Loader, NukeInstall | None]]:
    """Every (loader, Nuke line) that the release has a variant for."""
    have = {loader for variant in candidate.release.variants for loader in variant.loaders}
    others: list[tuple[Loader, NukeInstall | None]] = [
        (x, None) for x in LOADERS if x != "nuke-inference" and x in have
    ]
    lines = {nuke.line: nuke for nuke in sorted(candidate.facts.nukes, key=lambda nuke: nuke.version)}
    return [*(("nuke-inference", nuke) for _, nuke in sorted(lines.items())), *others]


def _answer(
    candidate: Candidate, loader: Loader, nuke: NukeInstall | None, passes: tuple[CheckName, ...]
) -> tuple[Answer, list[PassedOver]]:
    """The variant whose best operating point comes first by `rank`; the order of the record's variants says nothing."""
    line = nuke.line if nuke else None
    judged = [
        (variant, *_variant_findings(candidate, variant, nuke, passes))
        for variant in sorted(candidate.release.variants, key=lambda variant: _first(candidate, variant))
        if loader in variant.loaders
    ]
    served = [(variant, points) for variant, _, points in judged if points]
    passed = [PassedOver(loader, line, variant.id, found) for variant, found, points in judged if not points]
    if not served:
        return Answer(loader=loader, nuke_line=line, unavailable=_sentence(candidate, loader, line, passed)), passed
    variant, points = min(served, key=lambda item: rank(item[1][0]))
    behind = (
        PassedOver(loader, line, other.id, (_preferred(points[0], its[0]),))
        for other, its in served
        if other != variant
    )
    plans = {point.tile: _plan(candidate, variant, point, nuke) for point in reversed(points)}
    tiles = tuple(dict.fromkeys(point.tile for point in points))
    answer = _available(candidate.release.ref(), variant, loader, line, tiles)
    if any(plans.values()):
        answer = answer.model_copy(update={"memory_plans": tuple(plans[tile] or MemoryPlan() for tile in tiles)})
    return answer, [*passed, *behind]


def _plan(candidate: Candidate, variant: Variant, point: OperatingPoint, nuke: NukeInstall | None) -> MemoryPlan | None:
    """The memory plan under which a point was proven; None: the runtime's own settings."""
    report = _report(candidate, variant, point, nuke)
    return None if report is None else report.memory_plan


def _first(candidate: Candidate, variant: Variant) -> tuple[object, ...]:
    return min(rank(point) for point in _points(candidate, variant))


def _preferred(chosen: OperatingPoint, other: OperatingPoint) -> NotApplicable:
    why = f"{chosen} is preferred: {preference(chosen, other)}"
    return NotApplicable(check="hardware", subject=other.variant, rule="other-variant-serves", detail=why)


def _available(ref: ReleaseRef, variant: Variant, loader: Loader, line: str | None, tiles: tuple[Tile, ...]) -> Answer:
    folder = f"releases/{ref.model}/{release_folder(ref.version, ref.digest)}/{variant.id}"
    files = tuple(InstalledFile(path=f"{folder}/{f.path}", size=f.size, sha256=f.sha256) for f in variant.files)
    return Answer(
        loader=loader,
        nuke_line=line,
        variant=variant.id,
        precision=variant.precision,
        tiles=tuple(map(str, tiles)),
        path=f"{folder}/{variant.entry}",
        files=files,
    )


def _sentence(candidate: Candidate, loader: Loader, line: str | None, passed: list[PassedOver]) -> str:
    what = f"Nuke {line}" if line else f"the loader {loader} here"
    if not passed:
        return f"not available in {what}: {candidate.release.ref()} has no {'.cat' if line else 'variant'} for it"
    first = next(iter(blocking(passed[0].findings)))
    return f"not available in {what}: {passed[0].variant}: {describe(first)}"


def describe(finding: Finding) -> str:
    """One finding in one line, for a person."""
    about = f"{finding.check} {finding.subject}".strip()
    if isinstance(finding, Refused):
        return f"{about}: {finding.rule}: expected {finding.expected}, found {finding.actual}; {finding.remedy}"
    if isinstance(finding, NotRun):
        ran = "" if finding.rule == "few-shots" else "not run: "
        return f"{about}: {ran}{finding.why}" + (f"; {finding.remedy}" if finding.remedy else "")
    if isinstance(finding, NotApplicable):
        return f"{about}: not applicable ({finding.rule})" + (f": {finding.detail}" if finding.detail else "")
    return f"{about}: passed" + (f": {finding.detail}" if finding.detail else "")


def _variant_findings(
    candidate: Candidate, variant: Variant, nuke: NukeInstall | None, passes: tuple[CheckName, ...]
) -> tuple[tuple[Finding, ...], tuple[OperatingPoint, ...]]:
    """The findings of one variant at this host, and its accepted operating points, the preferred one first."""
    found = check_hardware(candidate.release, candidate.facts, candidate.policy)
    hardware = tuple(f for f in found if f.subject.split("/")[0] == variant.id and "/nuke-" not in f.subject)
    if nuke is not None:
        hardware = (*hardware, *check_nuke(variant, nuke, candidate.facts))
    hardware = _pass_over(_known(candidate, hardware), passes)
    if blocking(hardware):
        return hardware, ()
    points = _points(candidate, variant)
    judged = [(point, _pass_over(_point_findings(candidate, variant, point, nuke), passes)) for point in points]
    good = tuple(point for point, findings in judged if not blocking(findings))
    return (hardware, good) if good else ((*hardware, *judged[0][1]), ())


def _known(candidate: Candidate, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What speaks against a release; of an adopted one, which is in use as it is, nothing that is merely unknown."""
    if candidate.release.adopted is None:
        return findings
    return tuple(_as_it_was(f.check, f.subject, describe(f)) if isinstance(f, NotRun) else f for f in findings)


def _as_it_was(check: CheckName, subject: str, unknown: str = "") -> NotApplicable:
    detail = unknown or "never measured: the show had it before it had Changeover"
    return NotApplicable(check=check, subject=subject, rule="adopted", detail=detail)


def _points(candidate: Candidate, variant: Variant) -> tuple[OperatingPoint, ...]:
    providers = providers_for(variant, candidate.facts, candidate.policy) or ("unknown",)
    found = (
        OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
        for provider in providers
        for tile in variant.contract.tiles
    )
    return tuple(sorted(found, key=rank))


def _point_findings(
    candidate: Candidate, variant: Variant, point: OperatingPoint, nuke: NukeInstall | None
) -> tuple[Finding, ...]:
    if candidate.release.adopted is not None:
        return tuple(_as_it_was(check, str(point)) for check in ("vram", "speed", "golden"))
    report = _report(candidate, variant, point, nuke)
    if report is None:
        return tuple(_not_found(candidate, check, point) for check in ("vram", "speed", "golden"))
    measured = [f for f in report.findings if f.check in {"speed", "golden", "smoke", "format"}]
    needed: tuple[CheckName, ...] = ("speed", "golden")
    silent = [_not_found(candidate, check, point) for check in needed if not answered(check, measured)]
    known = memory_of(variant, point.tile, report.memory, report.memory_answer)
    old = resident(candidate.baseline, candidate.verdicts, candidate.policy, point.provider)
    return (check_vram(point, known, candidate.facts, candidate.policy, old=old), *measured, *silent)


def _report(
    candidate: Candidate, variant: Variant, point: OperatingPoint, nuke: NukeInstall | None
) -> PointReport | None:
    """What is said of this operating point in this host's golden class: by the named verdict, else the newest.

    A ``.cat`` runs in the torch that the Nuke embeds, so it is that line's class in which it was judged or was not.
    """
    runtime = embedded_runtime(nuke) if nuke is not None else runtime_for(variant, candidate.facts)
    if runtime is None:
        return None
    try:
        wanted = golden_class_of(candidate.facts, runtime, point.provider, point.precision)
    except UndecidedError:
        # Only an override of the hardware check leads here: of a host of no known class no verdict can speak.
        return None
    ref = candidate.release.ref()
    found = [
        (filed.digest, report)
        for filed in holding(candidate.verdicts, candidate.policy)
        if filed.verdict.candidate == ref
        for report in filed.verdict.points
        if report.point == point and report.golden_class == wanted
    ]
    named = next((report for digest, report in found if digest == candidate.named), None)
    return named or next((report for _, report in found), None)


def _not_found(candidate: Candidate, check: CheckName, point: OperatingPoint) -> NotRun:
    release = f"{candidate.release.model}@{candidate.release.version}"
    return NotRun(
        check=check,
        subject=str(point),
        why="no signed verdict for this operating point and this golden class",
        remedy=f"run on a machine of this class: changeover check {release}",
    )


def _pass_over(findings: Iterable[Finding], passes: tuple[CheckName, ...]) -> tuple[Finding, ...]:
    return tuple(
        NotApplicable(check=f.check, subject=f.subject, rule="overridden", detail=describe(f))
        if f.check in passes and blocking((f,))
        else f
        for f in findings
    )
