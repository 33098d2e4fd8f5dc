from pathlib import Path

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_validators.checks.cuda import check_cuda
from changeover_validators.checks.reasons import Cost
from changeover_validators.checks.sets import right_set
from changeover_validators.probe import forged_host, forged_hosts


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("rtx-a4000-16gib", "cuda12"),
        ("old-driver-16gib", "cuda12"),
        ("quadro-p6000-24gib", "cuda12"),
        ("tesla-v100-32gib", "cuda12"),
        ("rtx-4090-24gib", "cuda13"),
        ("rtx-5090-32gib", "cuda13"),
        ("h200-141gib", "cuda13"),
        ("two-unlike-gpus", "cuda12"),
        ("driver-470-24gib", None),
        ("quadro-m6000-24gib", None),
        ("old-glibc", None),
        ("no-gpu", None),
        ("unknown-gpus", None),
    ],
)
def test_set_follows_from_driver_and_gpus(host: str, name: str | None) -> None:
    assert right_set(forged_host(host)).name == name


def test_why_there_is_none_names_what_speaks_against_each() -> None:
    found = right_set(forged_host("driver-470-24gib"))

    assert "cuda13: driver: expected driver 580.65.06 or newer" in found.why
    assert "cuda12: driver: expected driver 525.60.13 or newer" in found.why
    assert not found.undecided


def test_host_without_a_gpu_needs_no_set_and_an_unknown_one_is_undecided() -> None:
    assert "on the CPU" in right_set(forged_host("no-gpu")).why
    assert not right_set(forged_host("no-gpu")).undecided
    assert right_set(forged_host("unknown-gpus")).undecided


def test_unknown_driver_is_undecided() -> None:
    facts = forged_host("rtx-a4000-16gib").model_copy(update={"driver": Unknown(unknown="not asked")})

    assert right_set(facts).undecided


def with_card(capability: str, driver: str, cuda: str) -> HostFacts:
    facts = forged_host("rtx-a4000-16gib")
    assert isinstance(facts.gpus, tuple)
    gpu = facts.gpus[0].model_copy(update={"compute_capability": capability, "name": f"card of {capability}"})
    return facts.model_copy(update={"gpus": (gpu,), "driver": driver, "cuda_driver": cuda})


def test_card_that_the_newest_release_dropped_gets_the_last_one_that_has_its_code() -> None:
    found = right_set(with_card("10.0", "580.82.07", "13.0")).chosen

    assert found is not None
    assert found.requirement == "'changeover[run,cuda13]' 'onnxruntime-gpu==1.28.0'"
    assert found.problems == ()


def test_card_newer_than_a_sets_code_gets_the_set_that_has_it_and_without_its_driver_the_one_that_is_compiled() -> None:
    new, old = right_set(with_card("12.0", "580.82.07", "13.0")), right_set(with_card("12.0", "570.133.07", "12.8"))

    assert new.name == "cuda13"
    assert old.name == "cuda12"
    assert old.chosen is not None
    assert [type(problem) for problem in old.chosen.problems] == [Cost]


@pytest.mark.parametrize("name", forged_hosts())
def test_set_that_is_named_runs_here_and_none_is_named_only_where_every_release_is_refused_or_open(name: str) -> None:
    facts = forged_host(name)
    found = right_set(facts)

    if found.chosen is not None:
        assert all(isinstance(problem, Cost) for problem in found.chosen.problems)
    elif isinstance(facts.gpus, tuple) and facts.gpus:
        assert all(any(not isinstance(p, Cost) for p in one.problems) for one in found.tried)


def test_sound_runtime_of_a_host_is_one_that_its_set_could_hold() -> None:
    """Where the installed onnxruntime runs, some set runs too: the advice is never harder than the host."""
    for name in forged_hosts():
        facts = forged_host(name)
        runtimes = facts.runtimes if isinstance(facts.runtimes, tuple) and facts.gpus else ()
        mine = [r for r in runtimes if r.name == "onnxruntime" and "cuda" in r.providers and r.version >= "1.23"]
        if any(not [p for p in check_cuda(r, facts) if not isinstance(p, Cost)] for r in mine):
            assert right_set(facts).name is not None, name


@pytest.mark.parametrize(
    ("host", "requirement"),
    [
        ("rtx-a4000-16gib", "-c constraints-cuda12.txt 'changeover[run,cuda12]'"),
        ("rtx-4090-24gib", "-c constraints.txt 'changeover[run,cuda13]'"),
    ],
)
def test_newest_release_of_a_set_is_installed_under_the_constraints_that_pin_it(host: str, requirement: str) -> None:
    chosen = right_set(forged_host(host)).chosen

    assert chosen is not None
    assert chosen.requirement == requirement
    pins = (Path(__file__).parents[3] / requirement.split()[1]).read_text(encoding="utf-8")
    assert f"onnxruntime-gpu=={chosen.release}\n" in pins
