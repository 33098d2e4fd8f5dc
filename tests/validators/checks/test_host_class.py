"""The host class against the checks themselves.

Who gets another answer is of another class, and what is no fact of any rule makes none.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown, Value
from changeover_registry.records.facts import Gpu, HostFacts, MigInstance, NukeInstall, RuntimeFacts
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import Release, Requires, Variant
from changeover_validators.checks.budget import budget
from changeover_validators.checks.hardware import check_hardware, providers_for, runtime_for
from changeover_validators.classes import host_class
from changeover_validators.probe import forged_host, forged_hosts

HOSTS = tuple(forged_host(name) for name in forged_hosts())
POLICIES = (Policy(), Policy(hardware=HardwarePolicy(serve_on_cpu=True)))
COUNT: dict[type[Value], set[str]] = {
    HostFacts: {
        "os",
        "glibc",
        "cpu_level",
        "ram_mib",
        "driver",
        "cuda_driver",
        "gpus",
        "runtimes",
        "nukes",
        "nuke_gpu",
    },
    Gpu: {"name", "compute_capability", "total_mib", "reserved_mib", "display", "mig", "instances"},
    MigInstance: {"total_mib", "reserved_mib"},
    RuntimeFacts: {
        "name",
        "version",
        "providers",
        "max_ir_version",
        "max_opset",
        "max_torchscript",
        "toolkit",
        "cudnn",
        "architectures",
    },
    NukeInstall: {"version", "torch_line"},
}
DO_NOT: dict[type[Value], dict[str, object]] = {
    HostFacts: {"host": "other", "kernel": "6.1", "cores": 3, "cpu": "another", "ext": {"note": 1}},
    Gpu: {"uuid": "GPU-other", "free_mib": 1, "driver_model": "mcdm", "accounting": True},
    MigInstance: {"uuid": "MIG-other", "free_mib": 1, "profile": "1g.5gb"},
    RuntimeFacts: {"interpreter": "/elsewhere/python"},
    NukeInstall: {"path": "/nuke", "reads": ("/tools",), "found": "/usr/local/Nuke"},
}
PLACES: dict[type[Value], str] = {Gpu: "gpus", RuntimeFacts: "runtimes", NukeInstall: "nukes"}
Answer = Callable[[HostFacts], tuple[object, ...]]


def parts(facts: HostFacts, kind: type[Value]) -> tuple[Any, ...]:
    """The parts of that kind that a host has; the host itself for the whole."""
    if kind is HostFacts:
        return (facts,)
    if kind is MigInstance:
        lists = [gpu.instances for gpu in parts(facts, Gpu)]
        return tuple(item for found in lists if isinstance(found, tuple) for item in found)
    found = getattr(facts, PLACES[kind])
    return found if isinstance(found, tuple) else ()


def changed(facts: HostFacts, kind: type[Value], at: int, field: str, value: object) -> HostFacts:
    """`facts` with one field of its part number `at` replaced."""
    if kind is HostFacts:
        return facts.model_copy(update={field: value})
    old = parts(facts, kind)[at]
    new = old.model_copy(update={field: value})
    if kind is MigInstance:
        gpus = tuple(
            gpu.model_copy(update={"instances": tuple(new if one is old else one for one in gpu.instances)})
            if isinstance(gpu.instances, tuple)
            else gpu
            for gpu in parts(facts, Gpu)
        )
        return facts.model_copy(update={"gpus": gpus})
    replaced = tuple(new if one is old else one for one in parts(facts, kind))
    return facts.model_copy(update={PLACES[kind]: replaced})


def pool(kind: type[Value], field: str) -> tuple[object, ...]:
    """Every value that this field has on any host, a number that is too small, and unknown where it may be."""
    found: list[object] = [1] if "int" in str(kind.model_fields[field].annotation) else []
    for facts in HOSTS:
        found += [value for value in (getattr(part, field) for part in parts(facts, kind)) if value not in found]
    may_be_unknown = "Unknown" in str(kind.model_fields[field].annotation)
    return (*found, *([Unknown(unknown="not asked")] if may_be_unknown else ()))


POOLS = {(kind, field): pool(kind, field) for kind, fields in COUNT.items() for field in sorted(fields)}


@pytest.fixture
def answer(make_release: Callable[..., Release], make_variant: Callable[..., Variant]) -> Answer:
    """What all the checks that read facts say of one release with a variant of every kind."""
    plain = ("float32",)
    twin = Requires(torch_line="2.1.1", torchscript_version=8, dtypes=plain)
    variants = (
        make_variant(),
        make_variant(id="newest", requires=Requires(ir_version=13, opset=26, dtypes=plain)),
        make_variant(id="wide", requires=Requires(ir_version=9, opset=19, compute_capability="8.0", dtypes=plain)),
        make_variant(id="script", runtime="torchscript", entry="model.pt", requires=twin),
        make_variant(id="cat", runtime="nuke-cat", entry="model.cat", loaders=("nuke-inference",), requires=twin),
    )
    release = make_release(variants=variants)

    def ask(facts: HostFacts) -> tuple[object, ...]:
        return tuple(part for policy in POLICIES for part in answers(release, facts, policy))

    return ask


def answers(release: Release, facts: HostFacts, policy: Policy) -> Iterator[object]:
    for finding in check_hardware(release, facts, policy):
        words = tuple(getattr(finding, name, None) for name in ("rule", "reason", "expected"))
        yield (finding.outcome, finding.subject, *words)
    for variant in release.variants:
        runtime = runtime_for(variant, facts)
        yield providers_for(variant, facts, policy), None if runtime is None else runtime.version
    for provider in ("cuda", "cpu"):
        allowed = budget(facts, policy, provider)
        yield None if isinstance(allowed, Unknown) else allowed.allowed_bytes


@pytest.mark.parametrize("kind", COUNT)
def test_every_fact_is_said_to_count_or_not_to(kind: type[Value]) -> None:
    assert COUNT[kind] | set(DO_NOT[kind]) == set(kind.model_fields)
    assert not COUNT[kind] & set(DO_NOT[kind])


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_host_that_gets_another_answer_is_of_another_class(answer: Answer, data: st.DataObject) -> None:
    kind, field = data.draw(st.sampled_from(sorted(POOLS, key=str)))
    facts = data.draw(st.sampled_from([host for host in HOSTS if parts(host, kind)]))
    at = data.draw(st.integers(0, len(parts(facts, kind)) - 1))
    other = changed(facts, kind, at, field, data.draw(st.sampled_from(POOLS[kind, field])))

    assert answer(other) == answer(facts) or host_class(other) != host_class(facts)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fact_that_no_rule_reads_changes_neither_answer_nor_class(answer: Answer, data: st.DataObject) -> None:
    facts = data.draw(st.sampled_from([host for host in HOSTS if host.nuke_gpu is None]))
    other = facts
    for kind, fields in DO_NOT.items():
        for at in range(len(parts(facts, kind))):
            for field in data.draw(st.sets(st.sampled_from(sorted(fields)))):
                other = changed(other, kind, at, field, fields[field])

    assert answer(other) == answer(facts)
    assert host_class(other) == host_class(facts)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.sampled_from(HOSTS), random=st.randoms(use_true_random=False))
def test_order_and_repetition_change_neither_answer_nor_class(answer: Answer, facts: HostFacts, random: Any) -> None:
    other = facts
    for field in ("gpus", "runtimes", "nukes"):
        found = getattr(other, field)
        if isinstance(found, tuple):
            turned = [*found, *found[:1]]
            random.shuffle(turned)
            other = other.model_copy(update={field: tuple(turned)})

    assert set(map(str, answer(other))) == set(map(str, answer(facts)))
    assert host_class(other) == host_class(facts)


# A GPU's name decides through its family's capability, and beside that in what was measured on such a card.
DECIDES = sorted(((kind, field) for kind, field in POOLS if field != "name"), key=str)


@pytest.mark.parametrize(("kind", "field"), DECIDES, ids=lambda item: getattr(item, "__name__", item))
def test_nothing_is_counted_that_changes_no_answer(answer: Answer, kind: type[Value], field: str) -> None:
    def decides() -> bool:
        return any(
            answer(changed(facts, kind, at, field, value)) != answer(facts)
            for facts in HOSTS
            for at in range(len(parts(facts, kind)))
            for value in POOLS[kind, field]
        )

    assert decides()
