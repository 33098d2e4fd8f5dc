"""Free memory gates the moment of a changeover, and nothing else: what has no room right now waits."""

from dataclasses import replace
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, RuntimeFacts
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_registry.records.verdict import CurvePoint
from changeover_updater.eligible import judge_release
from changeover_updater.plan import make_plan
from changeover_updater.resident import resident
from changeover_validators.classes import golden_class_of

MIB = 1 << 20


def gpu(free: int | Unknown, total: int = 16376) -> Gpu:
    return Gpu(
        name="NVIDIA RTX A4000",
        uuid="GPU-1",
        compute_capability="8.6",
        total_mib=total,
        reserved_mib=346,
        free_mib=free,
        display=False,
    )


def facts(build: Any, free: int | Unknown, total: int = 16376) -> Any:
    runtime = RuntimeFacts(name="onnxruntime", version="1.26.0", interpreter="/python", providers=("cuda", "cpu"))
    return build.facts(gpus=(gpu(free, total),), driver="570.133.07", cuda_driver="12.8", runtimes=(runtime,))


def filed(build: Any, release: Any, mib: int, host: Any, **changes: Any) -> Any:
    """A verdict of `release` on the GPU of `host`, whose whole frame takes `mib` and whose tile a tenth of that."""
    points = []
    for number, size in ((0, mib), (1, mib // 10)):
        report = build.report(release, tile=number, facts=host, memory=(at(size * MIB),))
        point = report.point.model_copy(update={"provider": "cuda"})
        golden = golden_class_of(host, host.runtimes[0], "cuda", "fp32")
        points.append(report.model_copy(update={"point": point, "golden_class": golden}))
    return build.verdict(release, points=tuple(points), **changes)


def at(size: int) -> CurvePoint:
    return CurvePoint(width=4096, height=2160, bytes=size, requested_bytes=size)


def judged(build: Any, free: int | Unknown, mib: int = 4000, **changes: Any) -> Any:
    release, host = build.release(), facts(build, free)
    candidate = build.candidate(release, facts=host, verdicts=(filed(build, release, mib, host),), policy=Policy())
    return judge_release(replace(candidate, **changes))


def test_release_that_has_room_right_now_goes_and_one_without_waits_and_is_accepted_all_the_same(build: Any) -> None:
    roomy, tight = judged(build, 4000), judged(build, 3999)

    assert (roomy.accepted, roomy.gate.answer) == (True, "go")
    assert (tight.accepted, tight.gate.answer) == (True, "wait")
    assert "3999 MiB are free" in tight.gate.why


def test_free_memory_that_nobody_knows_waits(build: Any) -> None:
    found = judged(build, Unknown(unknown="NVML does not list this GPU now"))

    assert found.gate.answer == "wait"
    assert "NVML does not list" in found.gate.why


def test_gate_looks_at_what_is_preferred_of_what_fits_and_not_at_what_was_passed_over(build: Any) -> None:
    release, host = build.release(), facts(build, 900, total=6000)
    candidate = build.candidate(release, facts=host, verdicts=(filed(build, release, 8000, host),), policy=Policy())

    found = judge_release(candidate)

    assert found.answers[1].tiles == ("1024+64",)
    assert found.gate.answer == "go"


def test_override_of_memory_passes_over_the_gate_too(build: Any) -> None:
    release = build.release()

    assert judged(build, 10, overrides=(build.override(release, "vram"),)).gate.answer == "go"


@pytest.mark.parametrize(("changeover", "answer"), [("both-resident", "wait"), ("unload-first", "go")])
def test_what_is_unloaded_first_counts_as_free(build: Any, changeover: Any, answer: str) -> None:
    old, new = build.release("0.9.0"), build.release()
    host = facts(build, 1500)
    verdicts = (filed(build, new, 4000, host), filed(build, old, 3000, host))
    policy = Policy(vram=VramPolicy(changeover=changeover))

    found = judge_release(build.candidate(new, facts=host, verdicts=verdicts, baseline=old, policy=policy))

    assert found.accepted
    assert found.gate.answer == answer


def test_plan_says_what_would_wait_with_exit_code_4_and_takes_it_when_there_is_room(build: Any) -> None:
    release = build.release()
    plans = {}
    for free in (100, 4000):
        host = facts(build, free)
        known = build.known(
            build.choice({"stable": release}),
            vendors=(build.vendor(release),),
            verdicts=(filed(build, release, 4000, host),),
            facts=host,
        )
        plans[free] = make_plan(replace(known, gated=True))
        assert make_plan(known).exit_code == 0

    assert [(m.outcome, m.exit_code, m.waits) for m in plans[100].moves] == [("keep", 4, True)]
    assert plans[100].exit_code == 4
    assert plans[100].moves[0].why.startswith("will be installed, and waits: 100 MiB are free")
    assert plans[100].generation is None
    assert [(m.outcome, m.exit_code, m.waits) for m in plans[4000].moves] == [("take", 0, False)]
    assert plans[4000].generation is not None


def test_release_that_waits_does_not_keep_others_from_being_taken(build: Any) -> None:
    small, large = build.release("1.0.0"), build.release("2.0.0")
    host = facts(build, 2000)
    known = build.known(
        build.choice({"beta": large, "stable": small}),
        vendors=(build.vendor(small, large),),
        verdicts=(filed(build, large, 4000, host), filed(build, small, 1000, host)),
        facts=host,
    )

    plan = make_plan(replace(known, gated=True, installed=True))

    assert {move.where: move.outcome for move in plan.moves} == {"beta": "keep", "stable": "take"}
    assert plan.exit_code == 4
    assert plan.generation is not None
    assert [channel.channel for channel in plan.generation.channels] == ["stable"]
    assert next(move.why for move in plan.moves if move.where == "beta").startswith("installed, and waits")


def test_changeover_that_does_not_fit_beside_the_release_in_use_is_refused_before_any_gate(build: Any) -> None:
    old, new = build.release("0.9.0"), build.release()
    host = facts(build, 15000)
    verdicts = (filed(build, new, 6000, host), filed(build, old, 6000, host))

    both = judge_release(build.candidate(new, facts=host, verdicts=verdicts, baseline=old, policy=Policy()))
    alone = judge_release(build.candidate(new, facts=host, verdicts=verdicts, policy=Policy()))

    assert alone.answers[1].tiles == ("none", "1024+64")
    assert both.answers[1].tiles == ("1024+64",)


def test_memory_of_the_release_in_use_is_the_preferred_points_of_its_newest_verdict(build: Any) -> None:
    old, host = build.release("0.9.0"), facts(build, 9000)
    newest, older = filed(build, old, 3000, host), filed(build, old, 100, host)

    assert resident(None, (newest,), Policy(), "cuda") is None
    found = resident(old, (newest, older), Policy(), "cuda")
    other = resident(old, (newest,), Policy(), "cpu")

    assert found is not None
    assert not isinstance(found, Unknown)
    assert found.one_bytes == 3000 * MIB
    assert isinstance(other, Unknown)
    assert "0.9.0" in other.unknown
