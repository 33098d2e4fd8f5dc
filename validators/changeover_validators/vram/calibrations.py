"""Constants of a (GPU, driver, runtime, version) that somebody measured: what they belong to, and those that ship.

A tuple answers for itself alone: another driver, another release of a runtime, another card have other contexts and
libraries, so nothing is carried over. What ships is an open file for each tuple, under ``tables/calibration``. Left
out: measuring them (`calibrate`).
"""

import functools
import re
from dataclasses import dataclass
from importlib import resources

from changeover_registry import canonical
from changeover_registry.records.memory import Calibration
from changeover_validators.vram.predictor import Target

__all__ = ["CalibrationKey", "file_name", "key_of", "key_of_target", "shipped"]


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What constants belong to."""

    gpu: str
    driver: str
    runtime: str
    version: str

    def digest(self) -> str:
        """The sha256 of its canonical form: the name of its file in a site."""
        parts = {"driver": self.driver, "gpu": self.gpu, "runtime": self.runtime, "version": self.version}
        return canonical.digest(canonical.dumps(parts))


def key_of(calibration: Calibration) -> CalibrationKey:
    """What a calibration belongs to."""
    return CalibrationKey(calibration.gpu, calibration.driver, calibration.runtime, calibration.version)


def key_of_target(target: Target) -> CalibrationKey | None:
    """What a prediction for `target` would need; None where it runs on no GPU, or on one that is not known."""
    if target.provider != "cuda" or target.gpu is None or target.driver is None:
        return None
    return CalibrationKey(target.gpu, target.driver, target.runtime, target.version)


def file_name(key: CalibrationKey) -> str:
    """How a calibration that ships is called, so that a person finds it."""
    text = f"{key.gpu} {key.driver} {key.runtime} {key.version}".lower()
    return f"{re.sub(r'[^a-z0-9.]+', '-', text).strip('-')}.json"


@functools.cache
def shipped() -> tuple[Calibration, ...]:
    """The calibrations under ``tables/calibration``, by file name; none until a GPU was measured.

    Raises:
        InvalidInputError: A file is no calibration.
    """
    folder = resources.files("changeover_validators.tables").joinpath("calibration")
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".json")), key=lambda item: item.name)
    return tuple(Calibration.from_bytes(item.read_bytes(), where=f"tables/calibration/{item.name}") for item in files)
