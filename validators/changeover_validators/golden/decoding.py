"""Decoding ahead of the models: plates, further inputs, truths and second mattes of one shot, in a thread of its own.

Every file is hashed again before it is decoded: a truth that changed is not the truth that was approved. Values of a
plate that are NaN or infinite become 0 and are counted, or are an error where a contract says so. A plate is brought to
the colour of each contract once, however many subjects take it. The thread is as many frames ahead as its line has room
for, so that memory does not grow with the shot. Left out: how a file is read (`frames`), and who takes the frames.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import MeasurementError, RefusedError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.release import Contract, Port
from changeover_validators.golden._channel import Channel, CutError
from changeover_validators.golden.aspect import widen
from changeover_validators.golden.colour import Colour, Transform, transform
from changeover_validators.golden.frames import check_bytes, check_size, read_input, read_plate, read_region, read_truth
from changeover_validators.golden.images import Image, Pixels
from changeover_validators.golden.jobs import Plane, ShotJob, Subject

__all__ = ["Ahead", "Decoded", "colour_of", "plate_channels", "read_scored_region", "replace_non_finite"]

Planes = Mapping[str, Plane]
_AHEAD = 1
"""Frames that wait: one more is being decoded, and one is in the models. More would cost memory and win nothing."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame, ready for the models and the scorers.

    Attributes:
        frame: Its record.
        planes: float32 [H, W, C] by port for each subject, in the contract's colour; equal contracts share theirs.
        truth: float32 [H, W], None where the frame is not scored.
        second: Another artist's matte, float32 [H, W], where there is one.
        replaced: How many values were NaN or infinite and are 0 now.
    """

    frame: GoldenFrame
    planes: tuple[Planes, ...]
    truth: Plane | None
    second: Plane | None
    replaced: int


class Ahead(threading.Thread):
    """Decodes the frames of a job in order.

    Args:
        job: The shot, and whose contracts say in which colour the planes are wanted.

    Raises:
        RefusedError: The shot's colour cannot be brought to a contract's.
        InvalidInputError: The shot's colour configuration is gone, or another one.
    """

    def __init__(self, job: ShotJob) -> None:
        super().__init__(name="golden-decode", daemon=True)
        self._job = job
        self._colours = tuple(
            colour_of(job.shot, job.folder, subject.contract.colour, subject.contract.clamp) for subject in job.subjects
        )
        self.line: Channel[Decoded] = Channel(_AHEAD)
        self.cpu_ns = 0

    def run(self) -> None:
        """Fill the line; an error ends it behind the frames that were well."""
        error: BaseException | None = None
        try:
            for frame in self._job.shot.frames:
                self.line.put(self._decode(frame))
        except CutError:
            pass
        except BaseException as caught:  # noqa: BLE001 - whatever it is, the taker raises it
            error = caught
        self.cpu_ns = time.thread_time_ns()
        self.line.end(error)

    def _decode(self, frame: GoldenFrame) -> Decoded:
        shot, folder = self._job.shot, self._job.folder
        planes, replaced = self._planes(frame)
        scored = frame.scored and frame.matte is not None
        return Decoded(
            frame=frame,
            planes=planes,
            truth=read_truth(shot, folder, frame) if scored else None,
            second=read_truth(shot, folder, frame, second=True) if scored and frame.second is not None else None,
            replaced=replaced,
        )

    def _planes(self, frame: GoldenFrame) -> tuple[tuple[Planes, ...], int]:
        """The planes of every subject, and how many values of the files were replaced."""
        images = _Images(self._job.shot, self._job.folder, frame, self._job.subjects)
        made: dict[object, Planes] = {}
        answer = []
        for subject, colour in zip(self._job.subjects, self._colours, strict=True):
            _check_finite(self._job.shot, frame, subject, images.replaced)
            wanted = (colour.identity, subject.contract.pixel_aspect, subject.ports)
            if wanted not in made:
                made[wanted] = images.planes(subject, colour)
            answer.append(made[wanted])
        return tuple(answer), images.replaced


class _Images:
    """The files of one frame that models see: the plate, and the further inputs that the interface names, by port.

    A port that has an input of its own takes its channels from there, in the order of both; all others take theirs from
    the plate. Values that are not finite are 0 here, and counted.
    """

    def __init__(self, shot: GoldenShot, folder: Path, frame: GoldenFrame, subjects: Sequence[Subject]) -> None:
        self._shot = shot
        self.replaced = 0
        names = {port.name for subject in subjects for port in subject.ports}
        inputs = {given.port: given for given in frame.inputs or () if given.port in names}
        self._channels = plate_channels(frame, subjects)
        self._plate = self._clean(read_plate(shot, folder, frame, self._channels)) if self._channels else None
        self._inputs = {name: self._clean(read_input(shot, folder, frame, given)) for name, given in inputs.items()}

    def planes(self, subject: Subject, colour: Transform) -> Planes:
        """The image of each port in the contract's colour, square pixels where the contract asks for them."""
        plate = None if self._plate is None else colour.apply(self._plate, self._channels)
        planes = {port.name: self._plane(port, plate, colour) for port in subject.ports}
        if not desqueezed(self._shot, subject.contract):
            return planes
        return {name: widen(plane, float(self._shot.pixel_aspect)) for name, plane in planes.items()}

    def _plane(self, port: Port, plate: Plane | None, colour: Transform) -> Plane:
        given = self._inputs.get(port.name)
        if given is not None:
            return given.astype(np.float32) if port.colour == "raw" else colour.apply(given, port.channels)
        if plate is None:  # pragma: no cover - `plate_channels` has asked for what this port takes
            raise ValueError(port.name)
        if port.channels == self._channels:
            return plate
        return np.ascontiguousarray(plate[..., [self._channels.index(name) for name in port.channels]])

    def _clean(self, image: Image) -> Pixels:
        self.replaced += replace_non_finite(image.pixels)
        return image.pixels


def plate_channels(frame: GoldenFrame, subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The channels that the subjects take of the plate: those of every port that has no input of its own."""
    inputs = {given.port for given in frame.inputs or ()}
    wanted = [port for subject in subjects for port in subject.ports if port.name not in inputs]
    return tuple(dict.fromkeys(name for port in wanted for name in port.channels))


def read_scored_region(shot: GoldenShot, folder: Path) -> NDArray[np.bool_] | None:
    """The region [H, W] outside which nothing is scored, or None where all is.

    Raises:
        InvalidInputError: It is damaged, of another size, or not the one that was added.
    """
    if shot.region is None:
        return None
    path = folder / shot.region
    check_bytes(path, shot.region_sha256)
    region = read_region(path, shot.region_channel or shot.matte_channel)
    check_size(path, (region.shape[1], region.shape[0]), (shot.width, shot.height))
    return region


def replace_non_finite(pixels: Pixels) -> int:
    """Put 0 where a value is NaN or infinite, in place; answers how many there were.

    A half has an exponent of ones then; looking at the bits is three times faster than asking numpy, which converts.
    """
    if pixels.dtype == np.float16:
        fine = bool(np.bitwise_and(pixels.view(np.uint16), 0x7C00).max(initial=0) != 0x7C00)
    else:
        fine = bool(np.isfinite(pixels).all())
    if fine:
        return 0
    bad = ~np.isfinite(pixels)
    pixels[bad] = 0
    return int(np.count_nonzero(bad))


def desqueezed(shot: GoldenShot, contract: Contract) -> bool:
    """Whether planes are wider than the plate: its pixels are not square, and the contract wants square ones."""
    return contract.pixel_aspect == "desqueeze" and float(shot.pixel_aspect) != 1


def colour_of(shot: GoldenShot, folder: Path, target: Colour, clamp: str | None) -> Transform:
    """How the shot's plates come to `target`.

    Raises:
        RefusedError: There is no way.
        InvalidInputError: The shot's configuration is gone, or another one.
    """
    config: Path | str | None = shot.ocio_config
    if isinstance(config, str) and not config.startswith("ocio://"):
        config = folder / config
        check_bytes(config, shot.ocio_config_sha256)
    try:
        return transform(shot.colour, config, target, clamp)
    except RefusedError as error:
        raise RefusedError(
            error.rule,
            where=f"golden shot {shot.shot}",
            expected=error.expected,
            actual=error.actual,
            remedy=error.remedy,
        ) from error


def _check_finite(shot: GoldenShot, frame: GoldenFrame, subject: Subject, bad: int) -> None:
    if bad and subject.contract.non_finite == "error":
        raise MeasurementError(
            "plate",
            where=f"golden shot {shot.shot}, frame {frame.number}",
            expected="finite values, since the contract says non_finite = 'error'",
            actual=f"{bad} values of NaN or infinity",
            remedy="repair the plate, or judge this model on other shots",
        )
