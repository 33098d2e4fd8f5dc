import json
from importlib import resources
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, MigInstance
from changeover_validators import hosts, tables
from changeover_validators.probe import forged_host, forged_hosts
from changeover_validators.tables.load import capability_key


def cards(facts: HostFacts) -> tuple[Gpu, ...]:
    return facts.gpus if isinstance(facts.gpus, tuple) else ()


ALL = tuple(forged_host(name) for name in forged_hosts())
CARDS = tuple((facts, gpu) for facts in ALL for gpu in cards(facts))


def test_at_least_twenty_ship_and_every_one_is_canonical_and_named_as_its_file() -> None:
    assert len(ALL) >= 20
    for facts in ALL:
        assert HostFacts.from_bytes(facts.to_bytes(), where=facts.host) == facts
    assert tuple(facts.host for facts in ALL) == forged_hosts()


def test_documented_hosts_are_the_shipped_ones() -> None:
    assert hosts.__doc__ is not None
    documented = [line.split("`")[1] for line in hosts.__doc__.splitlines() if line.startswith("| `")]

    assert sorted(documented) == list(forged_hosts())


def test_page_lists_them_in_the_same_words() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "host-facts.md"
    rows = [line for line in str(hosts.__doc__).splitlines() if line.startswith("| ")]

    assert "\n".join(rows) in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("capability", ["5.2", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "12.0", "12.1"])
def test_every_family_from_maxwell_to_blackwell_is_there(capability: str) -> None:
    assert capability in {gpu.compute_capability for _, gpu in CARDS}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("GeForce", lambda _, gpu: "GeForce" in gpu.name),
        ("Quadro", lambda _, gpu: gpu.name.startswith("Quadro")),
        ("WDDM", lambda _, gpu: gpu.driver_model == "wddm"),
        ("TCC", lambda _, gpu: gpu.driver_model == "tcc"),
        ("MIG", lambda _, gpu: bool(gpu.mig is True and gpu.instances)),
        ("display", lambda _, gpu: gpu.display is True),
        ("compute", lambda _, gpu: gpu.display is False),
        ("R580 before Turing", lambda facts, gpu: _branch(facts) == 580 and capability_key(_known(gpu)) < (7, 5)),
        ("driver too old for CUDA 12", lambda facts, _: _branch(facts) < 525),
        ("memory that is not told", lambda _, gpu: isinstance(gpu.total_mib, Unknown)),
        ("reserve that is not told", lambda _, gpu: isinstance(gpu.reserved_mib, Unknown)),
        ("bound to one of two", lambda facts, gpu: facts.nuke_gpu == gpu.uuid and len(facts.gpus) == 2),
    ],
)
def test_every_kind_of_card_that_answers_differ_on_is_there(kind: str, expected: object) -> None:
    assert callable(expected)
    assert any(expected(facts, gpu) for facts, gpu in CARDS), kind


def test_hosts_without_a_gpu_without_avx2_with_an_old_glibc_and_of_each_system_are_there() -> None:
    assert any(facts.gpus == () and facts.cpu_level == "x86_64_v2" for facts in ALL)
    assert any(isinstance(facts.gpus, Unknown) for facts in ALL)
    assert any(facts.glibc == "2.17" for facts in ALL)
    assert {facts.os for facts in ALL} == {"linux", "windows", "macos"}


def test_hosts_name_what_the_tables_say_of_their_cards_and_nukes() -> None:
    for _, gpu in CARDS:
        assert tables.capability_of_gpu(gpu.name) == gpu.compute_capability
    for facts in ALL:
        for nuke in facts.nukes:
            assert nuke.torch_line == tables.nuke_torch_line(nuke.line)


def test_limits_of_each_onnxruntime_are_those_of_the_tables() -> None:
    for facts in ALL:
        for runtime in facts.runtimes if isinstance(facts.runtimes, tuple) else ():
            limits = tables.runtime_limits(runtime.version) if runtime.name == "onnxruntime" else None
            if limits is not None:
                assert (runtime.max_ir_version, runtime.max_opset) == (limits.max_ir_version, limits.max_opset)


def test_memory_adds_up_and_instances_fit_on_their_card() -> None:
    for facts, gpu in CARDS:
        instances = gpu.instances if isinstance(gpu.instances, tuple) else ()
        parts: tuple[Gpu | MigInstance, ...] = (gpu, *instances)
        for part in parts:
            total, reserved, free = part.total_mib, part.reserved_mib, part.free_mib
            if isinstance(total, int) and isinstance(reserved, int) and isinstance(free, int):
                assert 0 <= free <= total - reserved, facts.host
        sizes = [item.total_mib for item in instances if isinstance(item.total_mib, int)]
        assert len(sizes) == len(instances)
        assert not sizes or (isinstance(gpu.total_mib, int) and sum(sizes) <= gpu.total_mib)


def test_every_id_is_of_one_card_alone_and_nuke_is_set_to_one_that_is_there() -> None:
    bound = [facts for facts in ALL if facts.nuke_gpu is not None]
    ids = [gpu.uuid for facts, gpu in CARDS if facts not in bound]

    assert len(set(ids)) == len(ids)
    assert all(facts.nuke_gpu in {gpu.uuid for gpu in cards(facts)} for facts in bound)


def test_every_card_says_how_its_memory_is_known() -> None:
    for facts in ALL:
        sources = facts.ext.get("sources", [])
        assert isinstance(sources, list)
        assert [str(source).partition(": ")[0] for source in sources] == [gpu.name for gpu in cards(facts)]
        assert all(len(str(source).partition(": ")[2]) > 10 for source in sources)


def test_windows_alone_tells_how_it_drives_a_card() -> None:
    for facts, gpu in CARDS:
        assert (gpu.driver_model is None) == (facts.os != "windows")


def test_files_are_what_facts_prints_as_json() -> None:
    folder = resources.files("changeover_validators.hosts")
    for name in forged_hosts():
        body = json.loads(folder.joinpath(f"{name}.json").read_bytes())
        assert HostFacts.from_object(body, where=name).host == name


def test_host_that_does_not_ship_is_an_input_error() -> None:
    with pytest.raises(InvalidInputError, match="rtx-2070-8gib"):
        forged_host("../secret")


def _branch(facts: HostFacts) -> int:
    return int(str(facts.driver).split(".")[0])


def _known(gpu: Gpu) -> str:
    assert isinstance(gpu.compute_capability, str)
    return gpu.compute_capability
