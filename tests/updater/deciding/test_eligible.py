from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu
from changeover_registry.records.findings import CHECKS, NotApplicable, NotRun, Refused
from changeover_registry.records.release import Licences, Requires
from changeover_registry.records.verdict import CurvePoint
from changeover_updater.eligible import answered, blocking, describe, judge_release, overridden

EVERY: tuple[Any, ...] = tuple(check for check in CHECKS if check != "trust")


def answer(eligible: Any, loader: str = "python", line: str | None = None) -> Any:
    return next(a for a in eligible.answers if (a.loader, a.nuke_line) == (loader, line))


def reasons(eligible: Any) -> str:
    return " | ".join(describe(finding) for finding in eligible.reasons())


def test_accepted_release_is_served_to_each_loader_with_its_tiles_and_files(build: Any) -> None:
    release = build.release()

    eligible = judge_release(build.candidate(release))

    assert eligible.accepted
    assert not eligible.refused
    assert [a.loader for a in eligible.answers] == ["mlserver", "python"]
    served = answer(eligible)
    assert served.path == f"releases/acme/person-roto/1.0.0-{release.digest()[:12]}/onnx-fp32/model.onnx"
    assert served.tiles == ("none", "1024+64")
    assert [(f.path, f.size, f.sha256) for f in served.files] == [(served.path, 3, "a" * 64)]
    assert eligible.chosen() == release.variants
    assert eligible.passed_over == ()


def test_withdrawn_release_is_refused_with_every_check_but_trust_overridden(build: Any) -> None:
    release = build.release()
    vendor = build.vendor(release, withdrawn={"1.0.0": "leaks hair"})

    eligible = judge_release(build.candidate(release, vendor=vendor, overrides=(build.override(release, *EVERY),)))

    assert not eligible.accepted
    assert eligible.refused
    assert "withdrawn by the vendor: leaks hair" in reasons(eligible)


def test_trust_is_never_passed_over_even_by_an_override_that_no_record_would_hold(build: Any) -> None:
    forged = build.override(build.release(), "vram").model_copy(update={"checks": ("trust", "vram")})

    assert overridden((forged,), build.now) == ("vram",)


@given(st.lists(st.tuples(st.lists(st.sampled_from(EVERY), min_size=1), st.integers(-3, 3)), max_size=4))
@settings(deadline=None)
def test_override_holds_before_its_end_and_never_from_it_on(build: Any, entries: list[tuple[list[Any], int]]) -> None:
    release = build.release()
    overrides = [build.override(release, *checks, until=build.after(seconds=ahead)) for checks, ahead in entries]

    passed = overridden(overrides, build.now)

    assert set(passed) == {check for checks, ahead in entries if ahead > 0 for check in checks}
    assert len(set(passed)) == len(passed)
    assert overridden(overrides, build.now + timedelta(seconds=3)) == ()


@pytest.mark.parametrize("check", ["licence", "format", "interface"])
def test_release_that_a_cheap_check_refuses_is_not_served_until_that_check_is_overridden(
    build: Any, check: Any
) -> None:
    former = build.release("1.0.0")
    port = former.interface.inputs[0].model_copy(update={"colour": "srgb"})
    changes: dict[str, dict[str, Any]] = {
        "licence": {"licences": Licences(code="MIT", weights="GPL-3.0-only", training_data="mine")},
        "format": {"variants": (build.variant(requires=Requires(domains=("evil.ops",))),)},
        "interface": {"interface": former.interface.model_copy(update={"inputs": (port,)})},
    }
    release = build.release("1.1.0", **changes[check])
    candidate = build.candidate(release, baseline=former)

    refused = judge_release(candidate)
    other = judge_release(build.candidate(release, baseline=former, overrides=(build.override(release, "golden"),)))
    passed = judge_release(build.candidate(release, baseline=former, overrides=(build.override(release, check),)))

    assert (refused.accepted, other.accepted, passed.accepted) == (False, False, True)
    assert refused.refused
    assert {f.check for f in blocking(refused.findings)} == {check}
    assert [f.rule for f in passed.findings if isinstance(f, NotApplicable) and f.check == check] == ["overridden"]


def test_without_a_verdict_of_this_class_nothing_is_served_and_check_is_the_remedy(build: Any) -> None:
    release = build.release()

    eligible = judge_release(build.candidate(release, verdicts=()))

    assert not eligible.accepted
    assert not eligible.refused
    assert {f.check for f in eligible.reasons()} == {"vram", "speed", "golden"}
    assert "run on a machine of this class: changeover check acme/person-roto@1.0.0" in reasons(eligible)
    assert "not available in the loader python here: onnx-fp32: vram" in answer(eligible).unavailable
    assert {(p.loader, p.variant) for p in eligible.passed_over} == {("python", "onnx-fp32"), ("mlserver", "onnx-fp32")}
    assert eligible.chosen() == ()


@pytest.mark.parametrize(
    "changes",
    [{"cpu_level": "x86_64_v4"}, {"golden_class": "e" * 64}, {"golden_class": None}],
    ids=["another CPU", "another class", "no class"],
)
def test_verdict_of_another_golden_class_says_nothing_here(build: Any, changes: dict[str, Any]) -> None:
    release = build.release()
    if "cpu_level" in changes:
        candidate = build.candidate(release, facts=build.facts(**changes))
    else:
        verdict = build.verdict(release, points=(build.report(release, **changes),))
        candidate = build.candidate(release, verdicts=(verdict,))

    assert "no signed verdict for this operating point and this golden class" in reasons(judge_release(candidate))


def test_newest_verdict_that_measured_the_point_speaks_and_others_are_left_out(build: Any) -> None:
    release, other = build.release(), build.release("9.9.9")
    bad = (build.passed("speed"), build.refused("golden"), build.passed("smoke"))
    reports = (build.report(release, bad), build.report(release, bad, tile=1))
    newest = build.verdict(release, "reject", points=reports)
    verdicts = (build.verdict(other), newest, build.verdict(release))

    eligible = judge_release(build.candidate(release, verdicts=verdicts))

    assert eligible.refused
    assert {f.check for f in eligible.reasons()} == {"golden"}


def test_only_accepted_tiles_are_offered(build: Any) -> None:
    release = build.release()
    bad = build.report(release, (build.passed("speed"), build.refused("golden")), tile=0)
    verdict = build.verdict(release, points=(bad, build.report(release, tile=1)))

    assert answer(judge_release(build.candidate(release, verdicts=(verdict,)))).tiles == ("1024+64",)


@pytest.mark.parametrize("missing", ["speed", "golden"])
def test_report_that_is_silent_on_a_check_is_not_run_and_not_passed(build: Any, missing: str) -> None:
    release = build.release()
    whole = (build.passed("speed"), build.passed("golden"), build.passed("smoke"))
    reports = tuple(build.report(release, tuple(f for f in whole if f.check != missing), tile=n) for n in (0, 1))

    eligible = judge_release(build.candidate(release, verdicts=(build.verdict(release, points=reports),)))

    assert not eligible.accepted
    assert {(f.check, f.outcome) for f in eligible.reasons()} == {(missing, "not-run")}


@pytest.mark.parametrize("rule", ["earlier-check-refused", "overridden", "no-baseline"])
def test_golden_shots_that_were_spared_stay_open_when_what_spared_them_is_overridden(build: Any, rule: str) -> None:
    release = build.release()
    found = (build.passed("speed"), build.spared("golden", rule), build.refused("smoke"))
    reports = tuple(build.report(release, found, tile=n) for n in (0, 1))
    verdict = build.verdict(release, "reject", points=reports)

    eligible = judge_release(
        build.candidate(release, verdicts=(verdict,), overrides=(build.override(release, "smoke"),))
    )

    assert {f.check for f in eligible.reasons()} == {"golden"}


def test_memory_is_judged_by_this_hosts_budget_and_not_by_the_verdicts(build: Any) -> None:
    release = build.release()
    reports = tuple(
        build.report(release, tile=n, memory=(CurvePoint(width=4096, height=2160, bytes=2**40),)) for n in (0, 1)
    )

    eligible = judge_release(build.candidate(release, verdicts=(build.verdict(release, points=reports),)))

    assert eligible.refused
    assert "RAM budget" in reasons(eligible)


def test_host_that_cannot_run_it_is_refused_before_any_verdict_is_looked_up(build: Any) -> None:
    release = build.release(variants=(build.variant(requires=Requires(ir_version=99, opset=17)),))

    eligible = judge_release(build.candidate(release))

    assert {f.check for f in eligible.reasons()} == {"hardware"}
    assert eligible.refused


def test_host_of_no_known_class_is_undecided_with_hardware_overridden_and_does_not_fail(build: Any) -> None:
    release = build.release()
    policy = build.policy.model_copy(
        update={"hardware": build.policy.hardware.model_copy(update={"serve_on_cpu": False})}
    )
    some = build.candidate(release, policy=policy, overrides=(build.override(release, "hardware"),))
    every = build.candidate(release, policy=policy, overrides=(build.override(release, *EVERY),))

    assert {f.check for f in judge_release(some).reasons()} == {"vram", "speed", "golden"}
    assert judge_release(every).accepted


def test_unknown_runtimes_are_not_run(build: Any) -> None:
    facts = build.facts(runtimes=Unknown(unknown="the probe was killed"))

    eligible = judge_release(build.candidate(build.release(), facts=facts))

    assert not eligible.refused
    assert "the probe was killed" in reasons(eligible)


def cat_release(build: Any, **changes: Any) -> Any:
    return build.release(variants=(build.cat(**changes), build.variant()))


def test_each_nuke_line_has_its_own_answer_and_onnx_is_never_nukes(build: Any) -> None:
    release = cat_release(build)
    facts = build.facts(nukes=(build.nuke("15.1v3"), build.nuke("14.0v1", "1.12.1")))
    overrides = (build.override(release, "format", "vram", "speed", "golden"),)
    candidate = build.candidate(
        release, facts=facts, vendor=build.vendor(release, allow_executable=True), overrides=overrides
    )

    eligible = judge_release(candidate)

    assert answer(eligible, "nuke-inference", "15.1").path.endswith("/Roto.cat")
    assert answer(eligible, "nuke-inference", "14.0").path is None
    assert "not available in Nuke 14.0" in answer(eligible, "nuke-inference", "14.0").unavailable
    assert answer(eligible, "python").path.endswith("model.onnx")


def test_release_without_a_variant_for_nuke_says_so_for_each_line(build: Any) -> None:
    release = build.release()

    eligible = judge_release(build.candidate(release, facts=build.facts(nukes=(build.nuke(),))))

    sentence = f"not available in Nuke 15.1: {release.ref()} has no .cat for it"
    assert answer(eligible, "nuke-inference", "15.1").unavailable == sentence
    assert eligible.accepted


def test_gpu_that_the_embedded_torch_of_a_nuke_does_not_serve_is_refused_in_that_nuke(build: Any) -> None:
    gpu = Gpu(
        name="NVIDIA H200", uuid="GPU-1", compute_capability="12.0", total_mib=141000, reserved_mib=500,
        free_mib=140000, display=False,
    )  # fmt: skip
    facts = build.facts(gpus=(gpu,), driver="570.1", nukes=(build.nuke("15.1v3", "2.1.1"),))
    release = cat_release(build)
    candidate = build.candidate(release, facts=facts, vendor=build.vendor(release, allow_executable=True))

    eligible = judge_release(candidate)

    assert "not available on a GPU in Nuke 15.1" in reasons(eligible)
    assert answer(eligible, "nuke-inference", "15.1").path is None


def test_order_of_facts_changes_no_answer(build: Any) -> None:
    release = cat_release(build)
    nukes = (build.nuke("15.1v3", "2.1.1"), build.nuke("15.1v1", "1.12.1"), build.nuke("14.0v1", "1.12.1"))
    vendor = build.vendor(release, allow_executable=True)

    found = {
        judge_release(build.candidate(release, vendor=vendor, facts=build.facts(nukes=order))).answers
        for order in permutations(nukes)
    }

    assert len(found) == 1


def test_executable_format_is_refused_for_a_vendor_that_may_not_send_it(build: Any) -> None:
    eligible = judge_release(build.candidate(cat_release(build)))

    assert not eligible.accepted
    assert "--allow-executable" in reasons(eligible)


def test_answered_by_findings_of_that_check_alone(build: Any) -> None:
    assert answered("speed", (build.passed("speed"),))
    assert answered("speed", (build.spared("speed", "no-baseline"),))
    assert answered("golden", (build.spared("golden", "no-baseline"), build.passed("golden")))
    assert not answered("golden", (build.spared("golden", "no-baseline"), build.passed("speed")))
    assert not answered("speed", (build.spared("speed"),))
    assert not answered("speed", (build.spared("speed", "overridden"),))
    assert not answered("speed", ())


def test_finding_is_described_in_one_line(build: Any) -> None:
    told = [
        describe(build.passed("vram", "a/none/cpu")),
        describe(build.refused("vram")),
        describe(build.not_run("vram")),
        describe(NotRun(check="vram", why="nobody tried")),
        describe(build.spared("vram")),
        describe(NotApplicable(check="vram", rule="no-baseline", detail="nothing yet")),
        describe(build.passed("vram").model_copy(update={"detail": ""})),
    ]

    assert told == [
        "vram a/none/cpu: passed: vram is fine",
        "vram: rule: expected this, found that; mend it",
        "vram: not run: nobody tried; try",
        "vram: not run: nobody tried",
        "vram: not applicable (earlier-check-refused)",
        "vram: not applicable (no-baseline): nothing yet",
        "vram: passed",
    ]
    assert isinstance(build.refused("vram"), Refused)
