"""How far one model's scores lie apart when it runs twice: the noise floor of a golden class, kept in the site.

A shot's beginning is scored again in a process of its own, since a GPU's runtime chooses its kernels anew in each; the
first run is the filed one, wherever in the golden class it was made. The floor of a metric is the largest difference of
the two means that was ever seen in the class: it only grows, so whoever writes last loses nothing. Left out: who runs
the model, and which margins are too fine for it (`gates.check_noise`).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from changeover_registry._fs import lock, make_dirs, read_bytes_retry, write_atomic
from changeover_registry.errors import ChangeoverError
from changeover_registry.names import check_digest
from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.scores import NoiseRecord, ShotScores
from changeover_registry.records.verdict import NoiseFloor
from changeover_validators.golden.catalogue import METRICS

__all__ = ["FRAMES", "add_noise", "all_noise", "beginning", "floors", "largest", "read_noise", "shortest"]

FRAMES = 16
"""How many scored frames the second run has at most."""

_LOCK_SECONDS = 30.0
_LOG = logging.getLogger(__name__)


def shortest(shots: Sequence[GoldenShot]) -> GoldenShot:
    """The shot whose beginning costs least: fewest frames of it, then fewest pixels, then the first."""
    return min(shots, key=lambda shot: (len(beginning(shot).frames), shot.width * shot.height))


def beginning(shot: GoldenShot) -> GoldenShot:
    """A shot as far as its `FRAMES`-th scored frame, pre-roll included."""
    scored = [index for index, frame in enumerate(shot.frames) if frame.scored]
    last = scored[:FRAMES][-1] if scored else len(shot.frames) - 1
    return shot.model_copy(update={"frames": shot.frames[: last + 1]})


def floors(filed: ShotScores, again: ShotScores) -> tuple[NoiseFloor, ...]:
    """The difference of the candidate's means of each metric, over the frames that both runs scored."""
    first, second = _curves(filed), _curves(again)
    found = []
    for metric in METRICS:
        pairs = [
            (Decimal(one), Decimal(other))
            for one, other in zip(first.get(metric.name, ()), second.get(metric.name, ()), strict=False)
            if one is not None and other is not None
        ]
        if pairs:
            mean = sum((one - other for one, other in pairs), Decimal(0)) / len(pairs)
            found.append(NoiseFloor(metric=metric.name, difference=_text(abs(mean))))
    return tuple(found)


def largest(found: Iterable[NoiseFloor]) -> tuple[NoiseFloor, ...]:
    """Of each metric its largest difference, in the order in which metrics come first."""
    most: dict[str, Decimal] = {}
    for floor in found:
        most[floor.metric] = max(most.get(floor.metric, Decimal(0)), Decimal(floor.difference))
    return tuple(NoiseFloor(metric=metric, difference=_text(difference)) for metric, difference in most.items())


def read_noise(folder: Path, golden_class: str) -> NoiseRecord | None:
    """What is known of a golden class; None where nothing is, or where the file is damaged, which a warning names.

    Args:
        folder: ``site/scores/noise``; it need not be there.
        golden_class: The class.
    """
    return _read(_place(folder, golden_class))


def all_noise(folder: Path) -> tuple[NoiseFloor, ...]:
    """The largest floor of each metric over all golden classes: a policy holds for every one of them."""
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    return largest(floor for record in found if record is not None for floor in record.floors)


def add_noise(folder: Path, golden_class: str, found: Sequence[NoiseFloor]) -> NoiseRecord:
    """Take a run into what is known of a class, and return that.

    Raises:
        LostRaceError: Somebody else has been writing for half a minute.
        OSError: The site cannot be written.
    """
    make_dirs(folder)
    with lock(folder / ".lock", what="the noise floors", wait_seconds=_LOCK_SECONDS):
        known = read_noise(folder, golden_class)
        record = NoiseRecord(
            golden_class=golden_class,
            runs=1 if known is None else known.runs + 1,
            floors=largest((*(known.floors if known else ()), *found)),
        )
        write_atomic(_place(folder, golden_class), record.to_bytes())
    return record


def _read(path: Path) -> NoiseRecord | None:
    try:
        record = NoiseRecord.from_bytes(read_bytes_retry(path), where=str(path))
    except FileNotFoundError:
        return None
    except ChangeoverError as error:
        _LOG.warning("a noise floor is damaged and is measured again: %s", error)
        return None
    return record if record.golden_class == path.stem else None


def _curves(scores: ShotScores) -> Mapping[str, tuple[str | None, ...]]:
    return {curve.metric: curve.values for curve in scores.curves if curve.subject == "candidate"}


def _place(folder: Path, golden_class: str) -> Path:
    return folder / f"{check_digest(golden_class, where='golden class')}.json"


def _text(value: Decimal) -> str:
    """Nine digits, rounded up, so that a floor is never under what was seen."""
    return f"{value.quantize(Decimal('0.000000001'), 'ROUND_CEILING'):f}"
