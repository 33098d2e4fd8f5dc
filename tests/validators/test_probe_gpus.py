import builtins
import json
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from changeover_registry.records.facts import Gpu
from changeover_validators import probe_child as child


class NVMLError(Exception):
    """What the binding raises; its subclasses are told apart by name."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


class NVMLError_NotFound(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


def binding(**functions: Any) -> ModuleType:
    """A binding that answers as the documented one does on a machine with one card; `functions` replace its own."""
    memory = SimpleNamespace(total=8192 << 20, reserved=(100 << 20) + 1, free=7000 << 20)
    answers: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlMemory_v2": 2,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12080,
        "nvmlSystemGetDriverVersion": lambda: b"570.133.07",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda *_, **__: memory,
        "nvmlDeviceGetCudaComputeCapability": lambda _: (8, 6),
        "nvmlDeviceGetName": lambda _: "NVIDIA RTX A4000",
        "nvmlDeviceGetUUID": lambda _: "GPU-1",
        "nvmlDeviceGetDisplayActive": lambda _: 1,
        "nvmlDeviceGetMigMode": lambda _: [0, 0],
        "nvmlDeviceGetCurrentDriverModel": failing(NVMLError_NotSupported("not Windows")),
        "nvmlDeviceGetAccountingMode": lambda _: 1,
    }
    module = ModuleType("pynvml")
    for name, function in (answers | functions).items():
        setattr(module, name, function)
    return module


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_card_is_described_as_nvml_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", binding())

    assert child.gpus() == {
        "driver": "570.133.07",
        "cuda_driver": "12.8",
        "gpus": [
            {
                "name": "NVIDIA RTX A4000",
                "uuid": "GPU-1",
                "compute_capability": "8.6",
                "total_mib": 8192,
                "reserved_mib": 101,
                "free_mib": 7000,
                "display": True,
                "mig": False,
                "instances": None,
                "driver_model": None,
                "accounting": True,
            }
        ],
    }


def test_no_gpu_is_certain_only_where_library_or_driver_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlInit=failing(NVMLError_LibraryNotFound("none"))))
    certain = child.gpus()
    monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlInit=failing(NVMLError("no permission"))))
    uncertain = child.gpus()

    assert certain == {"gpus": [], "driver": None, "cuda_driver": None}
    assert "no permission" in uncertain["gpus"]["unknown"]


def test_missing_binding_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)

    assert "ImportError" in child.gpus()["gpus"]["unknown"]


def test_each_fact_that_nvml_withholds_is_unknown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = failing(NVMLError("withheld"))
    module = binding(
        nvmlDeviceGetMemoryInfo=broken,
        nvmlDeviceGetCudaComputeCapability=broken,
        nvmlSystemGetCudaDriverVersion_v2=broken,
        nvmlDeviceGetMigMode=failing(NVMLError_NotSupported("old card")),
        nvmlDeviceGetCurrentDriverModel=broken,
        nvmlDeviceGetAccountingMode=broken,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)

    answer = child.gpus()
    (gpu,) = answer["gpus"]

    assert answer["driver"] == "570.133.07"
    withheld = ("total_mib", "reserved_mib", "free_mib", "compute_capability", "driver_model", "accounting")
    for fact in (answer["cuda_driver"], *(gpu[name] for name in withheld)):
        assert "withheld" in fact["unknown"]
    assert (gpu["name"], gpu["mig"], gpu["instances"]) == ("NVIDIA RTX A4000", False, None)


def test_driver_before_r510_tells_total_and_free_and_no_reserve() -> None:
    def first_version(_: object, version: int | None = None) -> SimpleNamespace:
        if version:
            raise NVMLError_FunctionNotFound
        return SimpleNamespace(total=16117 << 20, free=9 << 20)

    answer = child.memory(binding(nvmlDeviceGetMemoryInfo=first_version), 0)

    assert (answer["total_mib"], answer["free_mib"]) == (16117, 9)
    assert answer["reserved_mib"]["unknown"].startswith("NVMLError_FunctionNotFound")


@pytest.mark.parametrize(("number", "model"), [(0, "wddm"), (1, "tcc"), (2, "mcdm")])
def test_windows_tells_how_it_drives_the_card(number: int, model: str) -> None:
    newer = binding(nvmlDeviceGetCurrentDriverModel=lambda _: number)
    older = binding(
        nvmlDeviceGetCurrentDriverModel=failing(NVMLError_FunctionNotFound("v2")),
        nvmlDeviceGetDriverModel_v1=lambda _: [number, 0],
    )

    assert child.driver_model(newer, 0) == child.driver_model(older, 0) == model


def test_driver_model_that_is_new_to_us_is_unknown() -> None:
    assert "NVML says 7" in child.driver_model(binding(nvmlDeviceGetCurrentDriverModel=lambda _: 7), 0)["unknown"]


def divided(**functions: Any) -> ModuleType:
    """A card with room for seven instances, of which the first and the third place are taken."""

    def place(_: object, index: int) -> str:
        if index not in {0, 2}:
            raise NVMLError_NotFound
        return f"instance {index}"

    def memory(handle: object, **_: object) -> SimpleNamespace:
        size = {"instance 0": 40192, "instance 2": 9728}.get(str(handle), 81920)
        return SimpleNamespace(total=size << 20, reserved=37 << 20, free=(size - 37) << 20)

    names = {"instance 0": "NVIDIA A100 MIG 3g.40gb", "instance 2": b"NVIDIA A100 MIG 1g.10gb"}
    answers: dict[str, Any] = {
        "nvmlDeviceGetMigMode": lambda _: [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": lambda _: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": place,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetName": lambda handle: names.get(handle, "NVIDIA A100"),
        "nvmlDeviceGetUUID": lambda handle: f"MIG {handle}" if str(handle) in names else "GPU-1",
    }
    return binding(**(answers | functions))


def test_instances_of_a_divided_card_are_read_through_their_own_handles() -> None:
    answer = child.gpu(divided(), 0)

    assert (answer["mig"], answer["total_mib"]) == (True, 81920)
    first, second = answer["instances"]
    assert first == {
        "uuid": "MIG instance 0",
        "profile": "3g.40gb",
        "total_mib": 40192,
        "reserved_mib": 37,
        "free_mib": 40155,
    }
    assert (second["uuid"], second["profile"], second["total_mib"]) == ("MIG instance 2", "1g.10gb", 9728)
    assert Gpu.model_validate_json(json.dumps(answer)).instances is not None


def test_instances_that_cannot_be_listed_are_unknown_and_none_is_none() -> None:
    refused = failing(NVMLError("no permission"))

    assert "no permission" in child.instances(divided(nvmlDeviceGetMaxMigDeviceCount=refused), 0)["unknown"]
    assert "no permission" in child.instances(divided(nvmlDeviceGetMigDeviceHandleByIndex=refused), 0)["unknown"]
    assert child.instances(divided(nvmlDeviceGetMigDeviceHandleByIndex=failing(NVMLError_NotFound())), 0) == []


def test_instance_without_a_profile_in_its_name_says_so() -> None:
    found = child.instance(divided(nvmlDeviceGetName=lambda _: "NVIDIA A100"), "instance 0")

    assert found["profile"] == {"unknown": "its name tells none: NVIDIA A100"}
    assert "lost" in child.instance(divided(nvmlDeviceGetName=failing(NVMLError("lost"))), 0)["profile"]["unknown"]


def test_list_of_cards_that_cannot_be_had_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    module = binding(nvmlDeviceGetCount=failing(NVMLError("lost")))
    monkeypatch.setitem(sys.modules, "pynvml", module)

    assert "lost" in child.gpus()["gpus"]["unknown"]


def test_mode_that_a_card_does_not_know_is_off_and_one_that_is_withheld_is_unknown() -> None:
    unsupported, withheld = failing(NVMLError_NotSupported("old card")), failing(NVMLError("withheld"))
    off = child.gpu(binding(nvmlDeviceGetMigMode=unsupported, nvmlDeviceGetAccountingMode=unsupported), 0)
    secret = child.gpu(binding(nvmlDeviceGetMigMode=withheld, nvmlDeviceGetAccountingMode=withheld), 0)

    assert (off["mig"], off["accounting"]) == (False, False)
    assert "withheld" in secret["mig"]["unknown"]
    assert "withheld" in secret["accounting"]["unknown"]
    assert secret["instances"] is None


@pytest.mark.parametrize(
    ("told", "lost"),
    [
        ({"total": 0, "reserved": 0, "free": 0}, {"total_mib"}),
        ({"total": 100 << 20, "reserved": 200 << 20, "free": 50 << 20}, {"reserved_mib"}),
        ({"total": 100 << 20, "reserved": 10 << 20, "free": 101 << 20}, {"free_mib"}),
    ],
)
def test_figure_that_no_card_has_is_unknown_and_says_what_the_driver_told(told: dict[str, int], lost: set[str]) -> None:
    card = child.memory(binding(nvmlDeviceGetMemoryInfo=lambda *_, **__: SimpleNamespace(**told)), 0)

    assert {name for name, value in card.items() if isinstance(value, dict)} == lost
    assert all("driver tells" in card[name]["unknown"] for name in lost)
