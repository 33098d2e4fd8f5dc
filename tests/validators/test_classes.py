import pytest

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_validators.classes import golden_class, golden_class_of, host_class
from changeover_validators.probe import forged_host, forged_hosts

UNKNOWN = Unknown(unknown="not asked")


def runtime(facts: HostFacts) -> RuntimeFacts:
    assert isinstance(facts.runtimes, tuple)
    return facts.runtimes[0]


def test_every_shipped_host_is_of_a_class_of_its_own() -> None:
    assert len({host_class(forged_host(name)) for name in forged_hosts()}) == len(forged_hosts())


def test_name_kernel_ids_free_memory_driver_patch_and_paths_make_no_new_class() -> None:
    facts = forged_host("rtx-a4000-16gib")
    assert isinstance(facts.gpus, tuple)
    gpu = facts.gpus[0].model_copy(update={"uuid": "other", "free_mib": 1})
    other = facts.model_copy(
        update={
            "host": "other",
            "kernel": "6.1",
            "glibc": "2.40",
            "driver": "570.200.01",
            "gpus": (gpu,),
            "runtimes": tuple(item.model_copy(update={"interpreter": "/x"}) for item in facts.runtimes),  # type: ignore[union-attr]
            "ext": {"note": 1},
        }
    )

    assert host_class(other) == host_class(facts)


def test_order_of_gpus_runtimes_and_nukes_makes_no_new_class() -> None:
    facts = forged_host("two-unlike-gpus")
    turned = forged_host("rtx-4090-24gib")

    assert host_class(facts.model_copy(update={"gpus": facts.gpus[::-1]})) == host_class(facts)  # type: ignore[index]
    backwards = {"runtimes": turned.runtimes[::-1], "nukes": turned.nukes[::-1]}  # type: ignore[index]
    assert host_class(turned.model_copy(update=backwards)) == host_class(turned)


@pytest.mark.parametrize(
    "change",
    [{"ram_mib": 1}, {"driver": "580.1"}, {"driver": None}, {"cpu_level": UNKNOWN}, {"gpus": ()}, {"nukes": ()}],
)
def test_what_a_check_reads_makes_a_new_class(change: dict[str, object]) -> None:
    facts = forged_host("rtx-a4000-16gib")

    assert host_class(facts.model_copy(update=change)) != host_class(facts)


def test_reason_of_an_unknown_fact_makes_no_new_class() -> None:
    facts = forged_host("unknown-gpus")

    assert host_class(facts.model_copy(update={"gpus": UNKNOWN})) == host_class(facts)


def test_golden_class_holds_over_patches_of_the_runtime_and_not_over_minors() -> None:
    base = golden_class("8.6", "onnxruntime", "1.26.0", "cuda", "fp32")

    assert golden_class("8.6", "onnxruntime", "1.26.4+cu12", "cuda", "fp32") == base
    others = [("8.9", "onnxruntime", "1.26.0", "cuda", "fp32"), ("8.6", "torch", "1.26.0", "cuda", "fp32")]
    others += [("8.6", "onnxruntime", "1.27.0", "cuda", "fp32"), ("8.6", "onnxruntime", "1.26.0", "cpu", "fp32")]
    others += [("8.6", "onnxruntime", "1.26.0", "cuda", "fp16")]
    assert len({base, *(golden_class(*other) for other in others)}) == 6


def test_golden_class_of_a_host_follows_its_gpu_or_its_cpu() -> None:
    card, farm = forged_host("rtx-a4000-16gib"), forged_host("no-gpu")

    assert golden_class_of(card, runtime(card), "cuda", "fp32") == golden_class(
        "8.6", "onnxruntime", "1.26", "cuda", "fp32"
    )
    assert golden_class_of(farm, runtime(farm), "cpu", "fp32") == golden_class(
        "x86_64_v3", "onnxruntime", "1.31", "cpu", "fp32"
    )


def test_unlike_gpus_make_a_golden_class_of_their_own() -> None:
    both, one = forged_host("two-unlike-gpus"), forged_host("rtx-a4000-16gib")

    assert golden_class_of(both, runtime(one), "cuda", "fp32") == golden_class(
        "6.1+8.6", "onnxruntime", "1.26.0", "cuda", "fp32"
    )


@pytest.mark.parametrize(("name", "provider"), [("unknown-gpus", "cuda"), ("no-gpu", "cuda")])
def test_golden_class_of_an_unknown_architecture_is_undecided(name: str, provider: str) -> None:
    facts = forged_host(name)

    with pytest.raises(UndecidedError, match="golden class"):
        golden_class_of(facts, runtime(facts), provider, "fp32")
    with pytest.raises(UndecidedError, match="not asked"):
        golden_class_of(facts.model_copy(update={"cpu_level": UNKNOWN}), runtime(facts), "cpu", "fp32")
