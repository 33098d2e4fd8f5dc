from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import Release, Requires, Variant
from changeover_validators.checks.hardware import check_hardware, check_nuke, gpu_capability, providers_for, runtime_for
from changeover_validators.probe import forged_host, forged_hosts, nuke_install

MakeRelease = Callable[..., Release]
MakeVariant = Callable[..., Variant]
ON_CPU = Policy(hardware=HardwarePolicy(serve_on_cpu=True))
UNKNOWN = Unknown(unknown="not asked")
BFLOAT = Requires(ir_version=10, opset=21, dtypes=("bfloat16", "float32"), compute_capability="8.0")


def with_runtime(facts: HostFacts, **fields: object) -> HostFacts:
    runtimes = facts.runtimes
    assert isinstance(runtimes, tuple)
    return facts.model_copy(update={"runtimes": (runtimes[0].model_copy(update=fields),)})


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.outcome for finding in findings]


@pytest.mark.parametrize(
    "name",
    [
        "rtx-a4000-16gib",
        "quadro-p4000-8gib",
        "rtx-2070-8gib",
        "rtx-4090-24gib",
        "rtx-6000-ada-48gib",
        "rtx-5090-32gib",
        "h200-141gib",
        "windows-wddm-24gib",
        "two-unlike-gpus",
        "a100-mig-80gib",
    ],
)
def test_plain_onnx_runs_on_every_sound_gpu_host(make_release: MakeRelease, name: str) -> None:
    (found,) = check_hardware(make_release(), forged_host(name), Policy())

    assert isinstance(found, Passed), found
    assert found.subject == "onnx-fp32/cuda"
    assert providers_for(make_release().variants[0], forged_host(name), Policy()) == ("cuda",)


@pytest.mark.parametrize("name", ["quadro-p4000-8gib", "rtx-2070-8gib", "two-unlike-gpus"])
def test_bfloat16_is_refused_where_one_card_is_too_old(
    make_release: MakeRelease, make_variant: MakeVariant, name: str
) -> None:
    release = make_release(variants=(make_variant(requires=BFLOAT),))

    (found,) = check_hardware(release, forged_host(name), Policy())

    assert isinstance(found, Refused)
    assert found.rule == "compute capability"
    assert found.expected == "compute capability 8.0 or higher (tensors of bfloat16)"
    assert found.actual.startswith(("6.1 (", "7.5 ("))
    assert providers_for(release.variants[0], forged_host(name), Policy()) == ()


def test_bfloat16_passes_on_a_newer_card_and_is_no_matter_on_the_cpu(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    release = make_release(variants=(make_variant(requires=BFLOAT),))

    for name, policy in (("rtx-a4000-16gib", Policy()), ("no-gpu", ON_CPU)):
        assert kinds(check_hardware(release, forged_host(name), policy)) == ["passed"]


def test_capability_that_the_vendor_states_is_compared_as_numbers(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    release = make_release(variants=(make_variant(requires=Requires(compute_capability="10.0")),))

    (found,) = check_hardware(release, forged_host("rtx-4090-24gib"), Policy())

    assert isinstance(found, Refused)
    assert found.actual.startswith("8.9")


def test_host_without_a_gpu_serves_only_if_the_policy_says_so(make_release: MakeRelease) -> None:
    facts = forged_host("no-gpu")

    (refused,) = check_hardware(make_release(), facts, Policy())
    (served,) = check_hardware(make_release(), facts, ON_CPU)

    assert isinstance(refused, Refused)
    assert (refused.rule, refused.actual) == ("GPU", "no GPU on this host")
    assert isinstance(served, Passed)
    assert providers_for(make_release().variants[0], facts, Policy()) == ()
    assert providers_for(make_release().variants[0], facts, ON_CPU) == ("cpu",)


def test_host_with_a_gpu_never_falls_back_to_the_cpu(make_release: MakeRelease) -> None:
    facts = with_runtime(forged_host("rtx-a4000-16gib"), providers=("cpu",))

    (found,) = check_hardware(make_release(), facts, ON_CPU)

    assert isinstance(found, Refused)
    assert (found.rule, found.actual) == ("provider", "cpu")


def test_unknown_gpus_are_not_run_and_never_taken_for_none(make_release: MakeRelease) -> None:
    (found,) = check_hardware(make_release(), forged_host("unknown-gpus"), ON_CPU)

    assert isinstance(found, NotRun)
    assert "No module named" in found.why


def test_unknown_or_missing_runtime_is_not_run_with_the_setting_as_remedy(make_release: MakeRelease) -> None:
    facts = forged_host("rtx-a4000-16gib")

    for runtimes in (UNKNOWN, ()):
        (found,) = check_hardware(make_release(), facts.model_copy(update={"runtimes": runtimes}), Policy())

        assert isinstance(found, NotRun)
        assert "[runtimes]" in found.remedy


@pytest.mark.parametrize(
    ("requires", "rule"), [(Requires(ir_version=14), "ONNX IR version"), (Requires(opset=27), "ONNX opset")]
)
def test_file_too_new_for_the_runtime_is_refused(
    make_release: MakeRelease, make_variant: MakeVariant, requires: Requires, rule: str
) -> None:
    release = make_release(variants=(make_variant(requires=requires),))

    (found,) = check_hardware(release, forged_host("rtx-a4000-16gib"), Policy())

    assert isinstance(found, Refused)
    assert found.rule == rule
    assert "onnxruntime 1.26.0 loads" in found.expected


def test_limit_comes_from_the_probe_then_from_the_table_then_is_unknown(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    release = make_release(variants=(make_variant(requires=Requires(ir_version=12)),))
    facts = forged_host("no-gpu")

    probed = check_hardware(release, with_runtime(facts, max_ir_version=11), ON_CPU)
    listed = check_hardware(release, with_runtime(facts, max_ir_version=UNKNOWN), ON_CPU)
    neither = check_hardware(release, with_runtime(facts, max_ir_version=UNKNOWN, version="9.9.9"), ON_CPU)

    assert (kinds(probed), kinds(listed), kinds(neither)) == (["refused"], ["passed"], ["not-run"])


def test_every_reason_is_reported_at_once(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    requires = Requires(ir_version=14, opset=99, compute_capability="12.0")

    found = check_hardware(
        make_release(variants=(make_variant(requires=requires),)), forged_host("old-driver-16gib"), Policy()
    )

    assert [item.rule for item in found if isinstance(item, Refused)] == [
        "compute capability",
        "ONNX IR version",
        "ONNX opset",
        "driver",
    ]


def test_driver_below_the_toolkits_floor_is_refused(make_release: MakeRelease) -> None:
    (found,) = check_hardware(make_release(), forged_host("old-driver-16gib"), Policy())

    assert isinstance(found, Refused)
    assert found.rule == "driver"
    assert "driver 580.65.06 or newer, for CUDA 13.0 of onnxruntime 1.31.0" in found.expected


@pytest.mark.parametrize("driver", [None, UNKNOWN, "beta"])
def test_unknown_driver_is_not_run(make_release: MakeRelease, driver: object) -> None:
    facts = forged_host("rtx-a4000-16gib").model_copy(update={"driver": driver})

    assert kinds(check_hardware(make_release(), facts, Policy())) == ["not-run"]


def test_driver_that_dropped_the_card_is_refused(make_release: MakeRelease) -> None:
    facts = forged_host("quadro-p4000-8gib").model_copy(update={"driver": "590.10"})

    (found,) = check_hardware(make_release(), facts, Policy())

    assert isinstance(found, Refused)
    assert found.expected.startswith("driver 580 or older")


def test_pascal_card_is_refused_by_a_runtime_of_cuda_13(make_release: MakeRelease) -> None:
    newer = with_runtime(forged_host("quadro-p4000-8gib"), version="1.31.0", toolkit=None, architectures=None)
    facts = newer.model_copy(update={"driver": "580.65.06"})

    (found,) = check_hardware(make_release(), facts, Policy())

    assert isinstance(found, Refused)
    assert found.rule == "GPU architecture"
    assert found.expected == "one of sm_75, sm_80, sm_86, sm_89, sm_90a, sm_120a, for onnxruntime 1.31.0"


def test_runtime_that_the_table_lacks_is_not_run_on_a_gpu(make_release: MakeRelease) -> None:
    facts = with_runtime(forged_host("rtx-a4000-16gib"), version="9.9.9", toolkit=None)

    assert kinds(check_hardware(make_release(), facts, Policy())) == ["not-run"]


def test_capability_that_the_driver_hides_is_taken_from_the_cards_family(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    facts = forged_host("rtx-a4000-16gib")
    gpu = facts.gpus[0].model_copy(update={"compute_capability": UNKNOWN})  # type: ignore[index]
    nameless = gpu.model_copy(update={"name": "Graphics Device"})
    release = make_release(variants=(make_variant(requires=BFLOAT),))

    by_name = check_hardware(release, facts.model_copy(update={"gpus": (gpu,)}), Policy())
    unknown = check_hardware(release, facts.model_copy(update={"gpus": (nameless,)}), Policy())

    assert gpu_capability(gpu) == "8.6"
    assert kinds(by_name) == ["passed"]
    assert set(kinds(unknown)) == {"not-run"}


def test_cpu_of_unknown_level_is_not_run(make_release: MakeRelease) -> None:
    facts = forged_host("no-gpu").model_copy(update={"cpu_level": UNKNOWN})

    assert kinds(check_hardware(make_release(), facts, ON_CPU)) == ["not-run"]


def torchscript(make_variant: MakeVariant, torch_line: str | None) -> Variant:
    return make_variant(
        id="ts", runtime="torchscript", entry="model.pt", loaders=("python",), requires=Requires(torch_line=torch_line)
    )


@pytest.mark.parametrize(
    ("torch_line", "outcome"), [("2.7.1", "passed"), ("1.12.1", "passed"), ("2.10.0", "refused"), (None, "passed")]
)
def test_torchscript_needs_its_torch_line_or_a_newer_one(
    make_release: MakeRelease, make_variant: MakeVariant, torch_line: str | None, outcome: str
) -> None:
    release = make_release(variants=(torchscript(make_variant, torch_line),))

    assert kinds(check_hardware(release, forged_host("rtx-a4000-16gib"), Policy())) == [outcome]


@pytest.mark.parametrize(
    ("version", "architectures", "outcome"),
    [
        ("2.7.1+cu128", None, "passed"),
        ("2.7.1+cu126", (), "passed"),
        ("2.7.1+cu128", ("sm_80",), "passed"),
        ("2.7.1+cu128", ("sm_75",), "refused"),
        ("2.7.1+cu128", ("sm_90a",), "refused"),
        ("2.7.1+cu121", ("sm_86",), "passed"),
        ("2.7.1+custom", ("sm_86",), "not-run"),
        ("2.7.1+cpu", ("sm_86",), "not-run"),
        ("2.7.1+cu999", ("sm_86",), "not-run"),
    ],
)
def test_torch_must_be_built_for_the_card(
    make_release: MakeRelease,
    make_variant: MakeVariant,
    version: str,
    architectures: tuple[str, ...] | None,
    outcome: str,
) -> None:
    runtime = RuntimeFacts(
        name="torch", version=version, interpreter="/python", providers=("cuda", "cpu"), architectures=architectures
    )
    facts = forged_host("rtx-a4000-16gib").model_copy(update={"runtimes": (runtime,)})

    found = check_hardware(make_release(variants=(torchscript(make_variant, None),)), facts, Policy())

    assert kinds(found) == [outcome]


def test_best_of_several_runtimes_counts_and_their_order_does_not(make_release: MakeRelease) -> None:
    facts = forged_host("rtx-a4000-16gib")
    good = facts.runtimes[0]  # type: ignore[index]
    bad = good.model_copy(update={"version": "1.31.0", "interpreter": "/newer", "toolkit": "13.0"})
    variant = make_release().variants[0]

    for order in ((good, bad), (bad, good)):
        some = facts.model_copy(update={"runtimes": order})

        assert kinds(check_hardware(make_release(), some, Policy())) == ["passed"]
        assert runtime_for(variant, some) == good


def test_twin_runs_under_its_own_torch_line_before_a_newer_one(make_variant: MakeVariant) -> None:
    def torch(version: str) -> RuntimeFacts:
        return RuntimeFacts(name="torch", version=version, interpreter=f"/{version}", providers=("cpu",))

    facts = forged_host("no-gpu").model_copy(update={"runtimes": (torch("2.7.1+cpu"), torch("2.1.1+cpu"))})

    assert runtime_for(torchscript(make_variant, "2.1.1"), facts) == torch("2.1.1+cpu")
    assert runtime_for(torchscript(make_variant, None), facts) == torch("2.7.1+cpu")


def test_there_is_no_runtime_for_a_cat_or_where_none_is_known(make_variant: MakeVariant) -> None:
    cat = make_variant(id="cat", runtime="nuke-cat", entry="roto.cat", loaders=("nuke-inference",))

    assert runtime_for(cat, forged_host("rtx-a4000-16gib")) is None
    assert runtime_for(make_variant(), forged_host("no-gpu").model_copy(update={"runtimes": ()})) is None


def cat_release(make_release: MakeRelease, make_variant: MakeVariant, torch_line: str | None) -> Release:
    requires = Requires(torch_line=torch_line)
    cat = make_variant(id="cat", runtime="nuke-cat", entry="roto.cat", loaders=("nuke-inference",), requires=requires)
    return make_release(variants=(cat,))


def test_cat_is_judged_for_each_nuke_line_by_the_torch_that_it_embeds(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    release = cat_release(make_release, make_variant, "2.1.1")

    found = check_hardware(release, forged_host("rtx-2070-8gib"), Policy())

    assert [(item.subject, item.outcome) for item in found] == [
        ("cat/nuke-15.0", "refused"),
        ("cat/nuke-15.1", "passed"),
        ("cat/cuda", "passed"),
    ]
    assert isinstance(found[0], Refused)
    assert found[0].rule == "not available in Nuke 15.0"
    assert (found[0].expected, found[0].actual) == ("torch 2.1.1 or newer", "torch 1.12.1")


def test_card_newer_than_what_nuke_embeds_is_refused_there_and_passes_in_a_newer_nuke(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    found = check_hardware(cat_release(make_release, make_variant, "2.1.1"), forged_host("rtx-5090-32gib"), Policy())

    assert [(item.subject, item.outcome) for item in found] == [
        ("cat/nuke-15.1", "refused"),
        ("cat/nuke-17.0", "passed"),
        ("cat/cuda", "passed"),
    ]


def test_cat_without_a_torch_line_without_a_nuke_or_in_an_unknown_nuke_is_not_run(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    opaque = cat_release(make_release, make_variant, None)
    stated = cat_release(make_release, make_variant, "2.1.1")

    assert kinds(check_nuke(opaque.variants[0], nuke_install("15.1v3"))) == ["not-run"]
    assert kinds(check_nuke(stated.variants[0], nuke_install("99.1"))) == ["not-run"]
    assert kinds(check_hardware(stated, forged_host("h200-141gib"), Policy()))[0] == "not-run"


def test_nothing_but_a_cat_is_loaded_by_nukes_own_node(make_variant: MakeVariant) -> None:
    (found,) = check_nuke(make_variant(), NukeInstall(version="15.1v3", torch_line="2.1.1"))

    assert isinstance(found, Refused)
    assert found.rule == "not available in Nuke 15.1"
    assert found.actual == "onnx"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(forged_hosts()),
    label=st.text("abc", min_size=1),
    free=st.integers(0, 9999),
    backwards=st.booleans(),
    serve=st.booleans(),
)
def test_what_is_no_fact_of_a_rule_changes_no_answer(
    make_release: MakeRelease,
    make_variant: MakeVariant,
    name: str,
    label: str,
    free: int,
    *,
    backwards: bool,
    serve: bool,
) -> None:
    # Which of several GPUs Nuke is set to is told by its UUID, so where it is told the UUID is a fact of the rules.
    facts = forged_host(name).model_copy(update={"nuke_gpu": None})
    changed: dict[str, object] = {"host": label, "kernel": label, "ext": {label: 1}}
    if isinstance(facts.gpus, tuple) and isinstance(facts.runtimes, tuple):
        step = -1 if backwards else 1
        changed["gpus"] = tuple(gpu.model_copy(update={"free_mib": free, "uuid": label}) for gpu in facts.gpus)
        changed["runtimes"] = facts.runtimes[::step]
    policy = Policy(hardware=HardwarePolicy(serve_on_cpu=serve))
    variants = (make_variant(requires=BFLOAT), torchscript(make_variant, "2.1.1"))
    release = make_release(variants=variants)

    assert check_hardware(release, facts.model_copy(update=changed), policy) == check_hardware(release, facts, policy)


@pytest.mark.parametrize("name", forged_hosts())
def test_every_variant_gets_an_answer_on_every_host_and_providers_agree_with_it(
    make_release: MakeRelease, make_variant: MakeVariant, name: str
) -> None:
    variants = (
        make_variant(),
        make_variant(id="bf16", requires=BFLOAT),
        make_variant(id="future", requires=Requires(ir_version=14)),
        torchscript(make_variant, "2.1.1"),
    )
    release, facts = make_release(variants=variants), forged_host(name)

    for policy in (Policy(), ON_CPU):
        found = check_hardware(release, facts, policy)
        for variant in variants:
            own = [item for item in found if item.subject.partition("/")[0] == variant.id]
            assert own
            passed = all(isinstance(item, Passed) for item in own)
            assert passed == bool(providers_for(variant, facts, policy))
