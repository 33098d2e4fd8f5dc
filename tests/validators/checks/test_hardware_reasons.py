from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import Release, Requires, Variant
from changeover_validators import tables
from changeover_validators.checks.cuda import chosen_gpus, in_range, runs_on
from changeover_validators.checks.hardware import check_hardware, providers_for
from changeover_validators.checks.reasons import Reason
from changeover_validators.probe import forged_host, forged_hosts

MakeRelease = Callable[..., Release]
MakeVariant = Callable[..., Variant]
UNKNOWN = Unknown(unknown="not asked")
ON_CPU = Policy(hardware=HardwarePolicy(serve_on_cpu=True))
CARDS = ("5.2", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")


def gpu(name: str = "NVIDIA RTX A4000", capability: str | Unknown = "8.6") -> Gpu:
    return Gpu(
        name=name,
        uuid="GPU-1",
        compute_capability=capability,
        total_mib=16376,
        reserved_mib=346,
        free_mib=14902,
        display=True,
    )


def host(**fields: object) -> HostFacts:
    """A sound host with an onnxruntime of CUDA 12.8, but for `fields`; ``runtime_`` leads those of the runtime."""
    runtime: dict[str, object] = {
        "name": "onnxruntime",
        "version": "1.26.0",
        "interpreter": "/run/python",
        "providers": ("cuda", "cpu"),
    }
    runtime |= {name.removeprefix("runtime_"): value for name, value in fields.items() if name.startswith("runtime_")}
    body = {
        "host": "h",
        "os": "linux",
        "kernel": "6.1",
        "glibc": "2.34",
        "cpu_level": "x86_64_v3",
        "cores": 8,
        "ram_mib": 65024,
        "driver": "570.133.07",
        "cuda_driver": "12.8",
        "gpus": (gpu(),),
        "runtimes": (RuntimeFacts.model_validate(runtime),),
        **{name: value for name, value in fields.items() if not name.startswith("runtime_")},
    }
    return HostFacts.model_validate(body)


def torch(version: str, **fields: object) -> tuple[RuntimeFacts, ...]:
    body = {"name": "torch", "version": version, "interpreter": "/torch/python", "providers": ("cuda", "cpu"), **fields}
    return (RuntimeFacts.model_validate(body),)


def nuke(version: str, line: str | Unknown) -> tuple[NukeInstall, ...]:
    return (NukeInstall(version=version, torch_line=line),)


def ts(**requires: object) -> dict[str, object]:
    about = {"id": "ts", "runtime": "torchscript", "entry": "model.pt", "loaders": ("python",)}
    return {**about, "requires": Requires.model_validate(requires)}


def cat(**requires: object) -> dict[str, object]:
    about = {"id": "cat", "runtime": "nuke-cat", "entry": "roto.cat", "loaders": ("nuke-inference",)}
    return {**about, "requires": Requires.model_validate(requires)}


def needs(**requires: object) -> dict[str, object]:
    return {"requires": Requires.model_validate(requires)}


NAMELESS = (gpu("Graphics Device", UNKNOWN),)
BLACKWELL = (gpu("NVIDIA GeForce RTX 5090", "12.0"),)
PASCAL = (gpu("Quadro P4000", "6.1"),)
AMPERE_ONLY = ("sm_80", "sm_86")
SITUATIONS: dict[Reason, tuple[HostFacts, dict[str, object], Policy, str]] = {
    Reason.GPUS_UNKNOWN: (host(gpus=UNKNOWN), {}, Policy(), "not-run"),
    Reason.NO_GPU: (host(gpus=()), {}, Policy(), "refused"),
    Reason.CAPABILITY_UNKNOWN: (host(gpus=NAMELESS), {}, Policy(), "not-run"),
    Reason.CAPABILITY_TOO_LOW: (host(), needs(compute_capability="8.9"), Policy(), "refused"),
    Reason.CPU_LEVEL_UNKNOWN: (host(gpus=(), cpu_level=UNKNOWN), {}, ON_CPU, "not-run"),
    Reason.CPU_LEVEL_TOO_LOW: (host(cpu_level="x86_64"), {}, Policy(), "refused"),
    Reason.GLIBC_UNKNOWN: (host(glibc=UNKNOWN), {}, Policy(), "not-run"),
    Reason.GLIBC_TOO_OLD: (host(glibc="2.17"), {}, Policy(), "refused"),
    Reason.RUNTIMES_UNKNOWN: (host(runtimes=UNKNOWN), {}, Policy(), "not-run"),
    Reason.NO_RUNTIME: (host(runtimes=()), {}, Policy(), "not-run"),
    Reason.NO_PROVIDER: (host(runtime_providers=("cpu",)), {}, Policy(), "refused"),
    Reason.IR_LIMIT_UNKNOWN: (
        host(runtime_version="9.9.9", runtime_toolkit="12.8"),
        needs(ir_version=9),
        Policy(),
        "not-run",
    ),
    Reason.IR_TOO_NEW: (host(), needs(ir_version=14), Policy(), "refused"),
    Reason.OPSET_LIMIT_UNKNOWN: (
        host(runtime_version="9.9.9", runtime_toolkit="12.8"),
        needs(opset=17),
        Policy(),
        "not-run",
    ),
    Reason.OPSET_TOO_NEW: (host(), needs(opset=27), Policy(), "refused"),
    Reason.COMPILED_ENGINE: (host(), needs(operators=("EPContext",)), Policy(), "not-run"),
    Reason.TORCH_TOO_OLD: (host(runtimes=torch("2.1.1+cu118")), ts(torch_line="2.7.1"), Policy(), "refused"),
    Reason.TORCHSCRIPT_LIMIT_UNKNOWN: (
        host(runtimes=torch("9.9.9", toolkit="12.8")),
        ts(torchscript_version=10),
        Policy(),
        "not-run",
    ),
    Reason.TORCHSCRIPT_TOO_NEW: (
        host(runtimes=torch("1.6.0", toolkit="11.0")),
        ts(torchscript_version=10, operators=("aten::gelu", "aten::conv2d")),
        Policy(),
        "refused",
    ),
    Reason.OPERATOR_MISSING: (
        host(runtimes=torch("2.1.1+cu118")),
        ts(torchscript_version=3, operators=("aten::_upsample_lanczos2d_aa",)),
        Policy(),
        "refused",
    ),
    Reason.OPERATOR_UNKNOWN: (
        host(runtimes=torch("1.9.0", toolkit="11.0")),
        ts(operators=("aten::_upsample_bilinear2d_aa",)),
        Policy(),
        "not-run",
    ),
    Reason.TOOLKIT_UNKNOWN: (host(runtime_version="9.9.9"), {}, Policy(), "not-run"),
    Reason.DRIVER_UNKNOWN: (host(driver=UNKNOWN), {}, Policy(), "not-run"),
    Reason.DRIVER_TOO_OLD: (host(driver="525.60.12"), {}, Policy(), "refused"),
    Reason.DRIVER_TOO_NEW: (host(driver="590.44.01", gpus=PASCAL), {}, Policy(), "refused"),
    Reason.ARCHITECTURE_MISSING: (
        host(runtime_version="1.31.1", driver="580.82.07", gpus=PASCAL),
        {},
        Policy(),
        "refused",
    ),
    Reason.PTX_DRIVER_UNKNOWN: (
        host(driver=UNKNOWN, cuda_driver=UNKNOWN, gpus=BLACKWELL),
        {},
        Policy(),
        "not-run",
    ),
    Reason.PTX_DRIVER_TOO_OLD: (host(driver="560.35.05", cuda_driver="12.6", gpus=BLACKWELL), {}, Policy(), "refused"),
    Reason.PTX_COMPILATION: (host(gpus=BLACKWELL), {}, Policy(), "passed"),
    Reason.CUDNN_OTHER_MAJOR: (host(runtime_cudnn="8.9"), {}, Policy(), "refused"),
    Reason.CUDNN_TOO_NEW: (host(runtime_cudnn="9.11.0", gpus=PASCAL), {}, Policy(), "refused"),
    Reason.NUKES_UNKNOWN: (host(), cat(torch_line="2.1.1"), Policy(), "not-run"),
    Reason.NUKE_TORCH_NOT_STATED: (host(nukes=nuke("15.1v3", "2.1.1")), cat(), Policy(), "not-run"),
    Reason.NUKE_TORCH_UNKNOWN: (host(nukes=nuke("99.0v1", UNKNOWN)), cat(torch_line="2.1.1"), Policy(), "not-run"),
    Reason.NUKE_TORCH_TOO_OLD: (host(nukes=nuke("15.0v4", "1.12.1")), cat(torch_line="2.1.1"), Policy(), "refused"),
    Reason.NUKE_GPU: (
        host(gpus=BLACKWELL, nukes=nuke("15.1v3", "2.1.1")),
        cat(torch_line="2.1.1"),
        Policy(),
        "refused",
    ),
    Reason.NUKE_COMPILATION: (host(nukes=nuke("13.0v1", "1.6.0")), cat(torch_line="1.6.0"), Policy(), "passed"),
}


def found(facts: HostFacts, variant: Variant, policy: Policy, make_release: MakeRelease) -> tuple[Finding, ...]:
    return check_hardware(make_release(variants=(variant,)), facts, policy)


@pytest.mark.parametrize("reason", SITUATIONS)
def test_every_reason_has_a_situation_that_gives_it_with_evidence_and_a_remedy(
    make_release: MakeRelease, make_variant: MakeVariant, reason: Reason
) -> None:
    facts, about, policy, outcome = SITUATIONS[reason]

    given = [f for f in found(facts, make_variant(**about), policy, make_release) if f.code == reason]

    assert {finding.outcome for finding in given} == {outcome}
    for finding in given:
        assert isinstance(finding, (Passed, NotApplicable)) or finding.remedy
        assert finding.evidence or reason in {
            Reason.TOOLKIT_UNKNOWN,
            Reason.IR_LIMIT_UNKNOWN,
            Reason.OPSET_LIMIT_UNKNOWN,
            Reason.NUKE_TORCH_NOT_STATED,
        }


def test_reasons_are_a_closed_list_and_a_file_that_nuke_never_loads_has_its_own(make_variant: MakeVariant) -> None:
    from changeover_validators.checks.hardware import check_nuke

    (refused,) = check_nuke(make_variant(), NukeInstall(version="15.1v3", torch_line="2.1.1"))

    assert refused.code == Reason.NUKE_FORMAT
    # Operators that a torch lacks are looked up in a table of their own, and tested there.
    others = {reason for reason in Reason if reason.startswith("operator-")}
    assert set(SITUATIONS) | {Reason.NUKE_FORMAT} | others == set(Reason)


def test_sound_host_gets_no_reason_and_says_which_facts_and_rows_it_rests_on(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    (passed,) = found(host(), make_variant(), Policy(), make_release)

    assert isinstance(passed, Passed)
    assert passed.code is None
    assert passed.evidence == ("fact gpus", "tables/onnxruntime.toml, binary for linux, 1.26 (binary, 2026-11-22)")


def test_compilation_is_a_cost_and_no_obstacle(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    facts = host(gpus=BLACKWELL)

    plain, cost = found(facts, make_variant(), Policy(), make_release)

    assert (plain.outcome, cost.outcome) == ("passed", "passed")
    assert isinstance(cost, Passed)
    assert "CUDA_CACHE_MAXSIZE" in cost.detail
    assert providers_for(make_variant(), facts, Policy()) == ("cuda",)


def test_operators_that_raised_the_archive_are_named(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    facts, about, policy, _ = SITUATIONS[Reason.TORCHSCRIPT_TOO_NEW]

    (refused,) = (f for f in found(facts, make_variant(**about), policy, make_release) if isinstance(f, Refused))

    assert refused.actual == "version 10, raised by gelu"
    assert "version 5 or older, which torch 1.6.0 reads" in refused.expected


def test_vision_transformer_passes_a_new_nuke_and_not_the_version_gate_of_an_old_one(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    variant = make_variant(**cat(torch_line="1.6.0", torchscript_version=10))
    facts = host(nukes=(*nuke("13.2v9", "1.6.0"), *nuke("15.1v3", "2.1.1")))

    by_subject = {f.subject: f.outcome for f in found(facts, variant, Policy(), make_release)}

    assert by_subject["cat/nuke-13.2"] == "refused"
    assert by_subject["cat/nuke-15.1"] == "passed"


def test_gpu_that_nuke_is_set_to_decides_alone(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    weak = gpu("Quadro M6000", "5.2").model_copy(update={"uuid": "GPU-weak"})
    facts = host(gpus=(gpu(), weak))

    any_of_them = found(facts, make_variant(), Policy(), make_release)
    bound = found(facts.model_copy(update={"nuke_gpu": "GPU-1"}), make_variant(), Policy(), make_release)

    assert [f.code for f in any_of_them] == [Reason.ARCHITECTURE_MISSING]
    assert [f.outcome for f in bound] == ["passed"]


@pytest.mark.parametrize(
    ("built", "runs"),
    [
        ("sm_80", {"8.0", "8.6", "8.9"}),
        ("sm_86", {"8.6", "8.9"}),
        ("sm_90", {"9.0"}),
        ("sm_90a", {"9.0"}),
        ("sm_100", {"10.0", "10.3"}),
        ("sm_120", {"12.0", "12.1"}),
        ("sm_120a", {"12.0"}),
        ("sm_120f", {"12.0", "12.1"}),
        ("sm_100f", {"10.0", "10.3"}),
        ("compute_90", {"9.0", "10.0", "10.3", "12.0", "12.1"}),
        ("compute_90a", {"9.0"}),
        ("compute_100f", {"10.0", "10.3"}),
        ("compute_75", {"7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"}),
        ("gfx90a", set()),
        ("sm_", set()),
    ],
)
def test_code_runs_on_its_majors_later_minors_with_a_suffix_on_less_and_as_ptx_on_more(
    built: str, runs: set[str]
) -> None:
    assert {card for card in CARDS if runs_on(built, card)} == runs


@given(st.sampled_from(CARDS), st.sampled_from(CARDS), st.sampled_from(CARDS))
def test_range_is_what_its_machine_code_one_by_one_would_run(card: str, one: str, other: str) -> None:
    low, high = sorted((one, other), key=lambda text: tuple(map(int, text.split("."))))
    between = [c for c in CARDS if CARDS.index(low) <= CARDS.index(c) <= CARDS.index(high)]

    assert in_range(card, low, high) == any(runs_on(f"sm_{c.replace('.', '')}", card) for c in between)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(forged_hosts()), more=st.integers(0, 400))
def test_newer_driver_is_refused_only_where_it_no_longer_drives_the_card(
    make_release: MakeRelease, make_variant: MakeVariant, name: str, more: int
) -> None:
    facts = forged_host(name)
    if not isinstance(facts.driver, str) or not isinstance(facts.gpus, tuple):
        return
    branch = int(facts.driver.split(".", maxsplit=1)[0]) + more
    newer = facts.model_copy(update={"driver": f"{branch}.1", "cuda_driver": "99.0"})

    codes = {f.code for f in found(newer, make_variant(), Policy(), make_release)}

    lasts = [tables.driver_ceiling(str(card.compute_capability)) for card in chosen_gpus(facts)]
    assert (Reason.DRIVER_TOO_NEW in codes) == any(last is not None and branch >= last.next for last in lasts)


def test_last_branch_on_windows_is_numbered_up_to_the_next_one(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    for driver, outcome in (("582.16", "passed"), ("591.44", "refused")):
        facts = host(os="windows", glibc=None, driver=driver, cuda_driver="13.0", gpus=PASCAL)

        (only,) = found(facts, make_variant(), Policy(), make_release)

        assert only.outcome == outcome


def test_floor_is_another_number_on_windows(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    facts = host(os="windows", glibc=None, driver="526.98")

    (only,) = found(facts, make_variant(), Policy(), make_release)

    assert isinstance(only, Refused)
    assert "driver 527.41 or newer" in only.expected


def test_driver_that_does_not_say_its_cuda_is_dated_by_the_toolkits_that_brought_theirs(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    for driver, code in (("560.35.05", Reason.PTX_DRIVER_TOO_OLD), ("570.133.07", Reason.PTX_COMPILATION)):
        facts = host(driver=driver, cuda_driver=None, gpus=BLACKWELL)

        codes = [f.code for f in found(facts, make_variant(), Policy(), make_release) if f.code]

        assert codes == [code]


def test_release_whose_only_variant_is_a_compiled_engine_runs_nowhere(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    engine = make_variant(**needs(operators=("Conv", "EPContext")))

    for name in forged_hosts():
        given = found(forged_host(name), engine, ON_CPU, make_release)

        assert any(isinstance(f, (NotRun, Refused)) for f in given)
        assert providers_for(engine, forged_host(name), ON_CPU) == ()


def test_gpu_that_nuke_is_set_to_and_that_is_gone_leaves_the_answer_open(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    (only,) = found(host(nuke_gpu="GPU-gone"), make_variant(), Policy(), make_release)

    assert isinstance(only, NotRun)
    assert only.code == Reason.GPUS_UNKNOWN
    assert "nuke_gpu in host.toml" in only.remedy


def test_nuke_whose_cuda_nobody_states_is_held_to_the_newest_build_of_its_torch(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    variant = make_variant(**cat(torch_line="1.12.1"))
    nukes = nuke("15.0v4", "1.12.1")

    for cards, outcome in (((gpu(),), "passed"), (BLACKWELL, "refused")):
        given = found(host(gpus=cards, nukes=nukes), variant, Policy(), make_release)

        assert [f.outcome for f in given if f.subject == "cat/nuke-15.0"] == [outcome]


def test_nuke_on_a_driver_below_its_torchs_floor_is_not_available_on_a_gpu(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    facts = host(driver="470.256.02", cuda_driver="11.4", nukes=nuke("17.0v1", "2.7.1"))

    given = found(facts, make_variant(**cat(torch_line="2.1.1")), Policy(), make_release)

    (refused,) = [f for f in given if f.subject == "cat/nuke-17.0"]
    assert isinstance(refused, Refused)
    assert refused.code == Reason.DRIVER_TOO_OLD
    assert refused.rule == "not available on a GPU in Nuke 17.0"
