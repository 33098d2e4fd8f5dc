"""What was measured of memory, kept in the site: one file for what a number of bytes belongs to, and calibrations.

``site/memory/<vendor>/<name>/<digest of the key>.json`` holds the newest measurement of that key beside what was
predicted for it; ``site/memory/calibrations/<digest of the tuple>.json`` the constants of one (GPU, driver, runtime,
version). A changed driver or runtime has another digest, so what was measured under the old one answers nothing. MLflow
gets the same numbers as a run. Left out: measuring itself (`changeover_validators.vram`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from changeover_registry import _fs, canonical
from changeover_registry.errors import ChangeoverError
from changeover_registry.names import check_model
from changeover_registry.records.memory import Calibration, MemoryKey, MemoryMeasurement
from changeover_updater.site import Site
from changeover_validators.vram.calibrations import key_of, key_of_target, shipped
from changeover_validators.vram.predictor import Target

__all__ = ["calibration_of", "keep_calibration", "keep_measurement", "log_measurement", "measurements"]

Notice = Callable[[str], None]
_CALIBRATIONS = "calibrations"
_R = TypeVar("_R", MemoryMeasurement, Calibration)


def keep_measurement(site: Site, model: str, measured: MemoryMeasurement) -> Path:
    """File a measurement of ``vendor/name`` in the place of an older one of the same key; returns where it lies.

    Raises:
        OSError: The site cannot be written.
    """
    folder = _folder(site, model)
    _fs.make_dirs(folder)
    path = folder / f"{_digest_of(measured.key)}.json"
    _fs.write_atomic(path, measured.to_bytes())
    return path


def measurements(site: Site, model: str) -> tuple[MemoryMeasurement, ...]:
    """What was measured of ``vendor/name``, the oldest first; a file that is none is passed over.

    Nothing here is signed, so nothing here may decide: it is shown, and compared.
    """
    return tuple(sorted(_read(_folder(site, model), MemoryMeasurement), key=lambda one: (one.made_at, one.digest())))


def keep_calibration(site: Site, calibration: Calibration) -> Path:
    """File the constants of one (GPU, driver, runtime, version); returns where they lie.

    Raises:
        OSError: The site cannot be written.
    """
    folder = site.root / "memory" / _CALIBRATIONS
    _fs.make_dirs(folder)
    path = folder / f"{key_of(calibration).digest()}.json"
    _fs.write_atomic(path, calibration.to_bytes())
    return path


def calibration_of(site: Site | None, target: Target) -> Calibration | None:
    """The constants of exactly the target's GPU, driver, runtime and version: the site's own, else those that ship.

    None where nobody measured that tuple, and where the target has no GPU.
    """
    wanted = key_of_target(target)
    own = () if site is None else _read(site.root / "memory" / _CALIBRATIONS, Calibration)
    return next((one for one in (*own, *shipped()) if key_of(one) == wanted), None)


def log_measurement(site: Site, model: str, version: str, measured: MemoryMeasurement, notice: Notice) -> None:
    """Give MLflow the numbers of a measurement; a notice says where it was not told."""
    from changeover_registry.mlflow_adapter.registry import Registry

    try:
        Registry(site.mlflow_uri(), site.root / "mlflow" / "artifacts").log_memory(model, version, measured)
    except ChangeoverError as error:
        notice(f"MLflow was not told: {error}")
    except OSError as error:
        notice(f"MLflow was not told: {error.filename}: {error.strerror}")


def _folder(site: Site, model: str) -> Path:
    return site.root.joinpath("memory", *check_model(model, where="model").split("/"))


def _digest_of(key: MemoryKey) -> str:
    return canonical.digest(canonical.dumps(cast("canonical.Json", key.model_dump(mode="json", exclude_none=True))))


def _read(folder: Path, kind: type[_R]) -> list[_R]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(kind.from_bytes(path.read_bytes(), where=str(path)))
        except ChangeoverError:
            continue
    return found
