"""What is kept of memory in a site, and what is found again."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import Calibration, MemoryKey, MemoryMeasurement, MemoryPlan, Steady
from changeover_updater.memory import calibration_of, keep_calibration, keep_measurement, log_measurement, measurements
from changeover_updater.site import Site
from changeover_validators.vram.calibrations import CalibrationKey, file_name, key_of, key_of_target, shipped
from changeover_validators.vram.predictor import Target

GPU, DRIVER = "NVIDIA RTX A4000", "580.65.06"


def measurement(arena: int = 4096, made_at: str = "2026-11-22T12:00:00Z", **key: Any) -> MemoryMeasurement:
    fields: dict[str, Any] = {
        "model": "ab" * 32,
        "runtime": "onnxruntime",
        "version": "1.31.1",
        "provider": "cpu",
        "width": 64,
        "height": 32,
    }
    held = Steady(in_use_bytes=arena, arena_bytes=arena)
    return MemoryMeasurement(
        key=MemoryKey(**(fields | key)),
        host="ws-01",
        made_at=made_at,
        runs=5,
        loaded=held,
        first=held,
        steady=held,
        resting_bytes=arena,
        process_bytes=Unknown(unknown="per-process unavailable"),
        accounted_bytes=Unknown(unknown="not asked"),
    )


def calibration(**changes: Any) -> Calibration:
    fields: dict[str, Any] = {
        "gpu": GPU,
        "compute_capability": "8.6",
        "driver": DRIVER,
        "runtime": "onnxruntime",
        "version": "1.31.1",
        "made_at": "2026-11-22T12:00:00Z",
        "context_bytes": 300 << 20,
        "libraries_bytes": 80 << 20,
        "source": "measured here",
    }
    return Calibration(**(fields | changes))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site")


def test_a_measurement_comes_back_as_it_was_kept(site: Site) -> None:
    path = keep_measurement(site, "acme/roto", measurement())
    assert path.parent == site.root / "memory" / "acme" / "roto"
    assert measurements(site, "acme/roto") == (measurement(),)
    assert measurements(site, "acme/other") == ()


def test_a_newer_measurement_of_the_same_key_takes_the_older_ones_place(site: Site) -> None:
    first = keep_measurement(site, "acme/roto", measurement(4096))
    second = keep_measurement(site, "acme/roto", measurement(8192, "2026-11-23T12:00:00Z"))
    assert first == second
    assert [one.steady.arena_bytes for one in measurements(site, "acme/roto")] == [8192]


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "1.30.0"},
        {"driver": "595.10", "gpu": GPU, "provider": "cuda"},
        {"width": 128},
        {"threads": 2},
        {"plan": MemoryPlan(pattern=False)},
        {"model": "cd" * 32},
    ],
)
def test_any_change_of_what_a_number_belongs_to_is_another_number(site: Site, changed: dict[str, Any]) -> None:
    keep_measurement(site, "acme/roto", measurement())
    keep_measurement(site, "acme/roto", measurement(8192, "2026-11-23T12:00:00Z", **changed))
    assert [one.steady.arena_bytes for one in measurements(site, "acme/roto")] == [4096, 8192]


def test_a_file_that_is_no_measurement_is_passed_over(site: Site) -> None:
    path = keep_measurement(site, "acme/roto", measurement())
    path.with_name("half.json").write_bytes(path.read_bytes()[:40])
    assert measurements(site, "acme/roto") == (measurement(),)


def test_an_mlflow_that_is_down_costs_a_notice(site: Site) -> None:
    (site.root / "site.toml").write_text(
        'schema = "changeover.site/1"\nmlflow = "sqlite:////proc/none/mlflow.db"\n', encoding="utf-8"
    )
    told: list[str] = []
    log_measurement(site, "acme/roto", "1.0.0", measurement(), told.append)
    assert len(told) == 1
    assert told[0].startswith("MLflow was not told: ")


def target(**changes: Any) -> Target:
    fields: dict[str, Any] = {
        "runtime": "onnxruntime",
        "version": "1.31.1",
        "provider": "cuda",
        "gpu": GPU,
        "driver": DRIVER,
    }
    return Target(**(fields | changes))


def test_a_calibration_answers_for_its_own_tuple(site: Site) -> None:
    keep_calibration(site, calibration())
    assert calibration_of(site, target()) == calibration()
    assert key_of(calibration()) == key_of_target(target())


@pytest.mark.parametrize(
    "changed",
    [
        {"gpu": "NVIDIA RTX A5000"},
        {"driver": "580.95.05"},
        {"version": "1.30.0"},
        {"runtime": "torch"},
        {"provider": "cpu"},
        {"gpu": None},
        {"driver": None},
    ],
)
def test_when_any_element_of_the_tuple_changes_the_calibration_is_none(site: Site, changed: dict[str, Any]) -> None:
    keep_calibration(site, calibration())
    assert calibration_of(site, target(**changed)) is None


def test_calibrations_of_other_tuples_stay_beside(site: Site) -> None:
    keep_calibration(site, calibration())
    keep_calibration(site, calibration(driver="595.10", context_bytes=1))
    keep_calibration(site, calibration(context_bytes=2))
    assert calibration_of(site, target()) == calibration(context_bytes=2)
    assert calibration_of(site, target(driver="595.10")) == calibration(driver="595.10", context_bytes=1)


def test_without_a_site_only_what_ships_answers() -> None:
    assert calibration_of(None, target(gpu="a card that nobody has")) is None


def test_every_calibration_that_ships_is_a_record_under_its_own_name() -> None:
    """There is none until a GPU was measured; each that comes is held to this."""
    folder = resources.files("changeover_validators.tables").joinpath("calibration")
    names = {item.name for item in folder.iterdir() if item.name.endswith(".json")}
    found = shipped()
    assert {file_name(key_of(one)) for one in found} == names
    assert len({key_of(one) for one in found}) == len(found)


def test_a_file_is_called_by_what_it_belongs_to() -> None:
    key = CalibrationKey("NVIDIA RTX A4000", "580.65.06", "torch", "2.13.0+cu130")
    assert file_name(key) == "nvidia-rtx-a4000-580.65.06-torch-2.13.0-cu130.json"
