import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
            "cpu": "another",
            "cores": 3,
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
    [
        {"ram_mib": 1},
        {"driver": "580.1"},
        {"driver": None},
        {"cuda_driver": "12.9"},
        {"cpu_level": UNKNOWN},
        {"glibc": "2.17"},
        {"gpus": ()},
        {"nukes": ()},
        {"nuke_gpu": "GPU-sold"},
    ],
)
def test_what_a_check_reads_makes_a_new_class(change: dict[str, object]) -> None:
    facts = forged_host("rtx-a4000-16gib")

    assert host_class(facts.model_copy(update=change)) != host_class(facts)


def test_driver_patch_makes_a_new_class_only_where_it_reaches_a_floor_of_the_tables() -> None:
    facts = forged_host("rtx-a4000-16gib")

    def of(driver: str) -> str:
        return host_class(facts.model_copy(update={"driver": driver}))

    assert of("525.60.12") != of("525.60.13")
    assert of("525.60.13") == of("525.147.05")
    assert of("not a version") != of("570.133.07")


def test_one_card_is_of_one_class_whether_nuke_is_set_to_it_or_not() -> None:
    facts = forged_host("rtx-a4000-16gib")
    assert isinstance(facts.gpus, tuple)

    assert host_class(facts.model_copy(update={"nuke_gpu": facts.gpus[0].uuid})) == host_class(facts)


def test_card_and_instance_that_nuke_is_set_to_make_classes_of_their_own() -> None:
    two, divided = forged_host("two-unlike-gpus"), forged_host("a100-mig-80gib")
    assert isinstance(two.gpus, tuple)
    assert isinstance(divided.gpus, tuple)
    assert isinstance(divided.gpus[0].instances, tuple)
    first, second, *alike = divided.gpus[0].instances

    def of(facts: HostFacts, uuid: object) -> str:
        return host_class(facts.model_copy(update={"nuke_gpu": uuid}))

    assert len({of(two, None), *(of(two, gpu.uuid) for gpu in two.gpus)}) == 3
    assert len({of(divided, None), of(divided, first.uuid), of(divided, second.uuid)}) == 3
    assert of(divided, alike[0].uuid) == of(divided, alike[1].uuid)
    assert of(divided, divided.gpus[0].uuid) == of(divided, None)


def test_card_that_nuke_is_not_set_to_counts_for_nothing() -> None:
    bound = forged_host("two-unlike-bound")
    assert isinstance(bound.gpus, tuple)
    alone = bound.model_copy(update={"gpus": bound.gpus[:1]})
    other = bound.gpus[1].model_copy(update={"name": "another", "total_mib": UNKNOWN})

    assert host_class(alone) == host_class(bound)
    assert host_class(bound.model_copy(update={"gpus": (bound.gpus[0], other)})) == host_class(bound)


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


def test_card_that_nuke_is_set_to_is_the_architecture_and_one_that_is_gone_is_undecided() -> None:
    bound = forged_host("two-unlike-bound")
    gone = bound.model_copy(update={"nuke_gpu": "GPU-sold"})

    assert golden_class_of(bound, runtime(bound), "cuda", "fp32") == golden_class(
        "8.6", "onnxruntime", "1.26.0", "cuda", "fp32"
    )
    with pytest.raises(UndecidedError, match="GPU-sold"):
        golden_class_of(gone, runtime(gone), "cuda", "fp32")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_golden_class_follows_its_five_parts_and_nothing_else(data: st.DataObject) -> None:
    facts = data.draw(st.sampled_from([forged_host(name) for name in forged_hosts()]))
    assert isinstance(facts.runtimes, tuple)
    ran = data.draw(st.sampled_from(facts.runtimes))
    provider = data.draw(st.sampled_from(("cuda", "cpu")))
    noise = {"host": "x", "kernel": "y", "driver": "999.1", "ram_mib": 1, "cores": 1, "nukes": (), "glibc": "2.99"}
    other = facts.model_copy(update={key: noise[key] for key in data.draw(st.sets(st.sampled_from(sorted(noise))))})
    patched = ran.model_copy(update={"interpreter": "/x", "max_opset": 1, "architectures": None})
    try:
        found = golden_class_of(facts, ran, provider, "fp32")
    except UndecidedError:
        with pytest.raises(UndecidedError):
            golden_class_of(other, patched, provider, "fp32")
        return

    assert golden_class_of(other, patched, provider, "fp32") == found
    assert golden_class_of(other, patched, provider, "fp16") != found
    assert golden_class_of(facts, ran.model_copy(update={"version": "99.1"}), provider, "fp32") != found


@pytest.mark.parametrize(("name", "provider"), [("unknown-gpus", "cuda"), ("no-gpu", "cuda")])
def test_golden_class_of_an_unknown_architecture_is_undecided(name: str, provider: str) -> None:
    facts = forged_host(name)

    with pytest.raises(UndecidedError, match="golden class"):
        golden_class_of(facts, runtime(facts), provider, "fp32")
    with pytest.raises(UndecidedError, match="not asked"):
        golden_class_of(facts.model_copy(update={"cpu_level": UNKNOWN}), runtime(facts), "cpu", "fp32")
