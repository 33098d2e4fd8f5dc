"""What a new shot is compared with: alias and digests of every other shot of its set, read fast.

A set may hold a thousand shots of hundreds of frames, and each addition looks at all of them. So a record is not
validated here: its bytes are those that the set names, by their digest, and they were validated when they were written.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.records.golden import GoldenSet, ShotRef
from changeover_validators.golden.sets import record_bytes

__all__ = ["Outline", "outlines"]


@dataclass(frozen=True, slots=True)
class Outline:
    """A shot as far as another may resemble it: the sha256 of each plate, and of each matte that it has."""

    shot: str
    alias: str
    plates: tuple[str, ...]
    mattes: tuple[str, ...]


def outlines(site_golden: Path, golden_set: GoldenSet) -> tuple[Outline, ...]:
    """Every shot of a set that is scored or waits, the scored ones first.

    Raises:
        MeasurementError: The record of a shot is gone or is not the one that the set names.
    """
    refs = (*golden_set.shots, *(golden_set.pending or ()))
    return tuple(_outline(site_golden, golden_set.name, ref) for ref in refs)


def _outline(site_golden: Path, name: str, ref: ShotRef) -> Outline:
    shot = json.loads(record_bytes(site_golden, name, ref))
    plates = tuple(frame["plate_sha256"] for frame in shot["frames"])
    mattes = tuple(frame["matte_sha256"] for frame in shot["frames"] if "matte_sha256" in frame)
    return Outline(shot["shot"], shot["alias"], plates, mattes)
