"""What is allowed in a new golden shot and looks wrong: one sentence each, with the frames that it concerns.

Nothing here refuses a shot: a person looks at the frames and decides, before the shot is approved. The shot's record
keeps the sentences, since the one who approves is seldom the one who added it. What was seen in the files comes from
`staging`; what the set holds already from `outlines`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_validators.golden.outlines import Outline
from changeover_validators.golden.staging import Look

__all__ = ["ShotWarning", "warnings_of"]

_COLOURS = frozenset({"R", "G", "B", "Y", "red", "green", "blue"})
"""Channels that hold a picture's colour; a matte in one of them that is also the plate's file is a mistake."""

_LOSS = "was stored with loss (DWA, B44, PXR24 or JPEG): write it with ZIP"


@dataclass(frozen=True, slots=True)
class ShotWarning:
    """Something that is allowed and looks wrong, on these frames (none means the shot as a whole)."""

    what: str
    frames: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line."""
        if not self.frames:
            return self.what
        more = f" and {len(self.frames) - 1} more" if len(self.frames) > 1 else ""
        return f"{self.what} (frame {self.frames[0]}{more})"


def warnings_of(shot: GoldenShot, looks: Sequence[Look], others: Sequence[Outline]) -> tuple[ShotWarning, ...]:
    """Everything about `shot` that a person should look at, each thing once.

    Args:
        shot: The shot as it was added.
        looks: What was seen in its frames.
        others: The other shots of the set; versions of the same shot among them are left out.
    """
    strangers = [other for other in others if other.shot != shot.shot]
    return (
        *_of_mattes(shot, looks),
        *_of_seconds(looks),
        *_of_plates(shot, looks),
        *_of_inputs(shot, looks),
        *_of_shot(shot),
        *_of_others(shot, looks, strangers),
    )


def _of_mattes(shot: GoldenShot, looks: Sequence[Look]) -> Iterator[ShotWarning]:
    constant = [look.number for look in looks if _constant(look.matte_range)]
    yield from _on(
        "matte values outside 0 to 1, which scoring cuts", _where(looks, lambda look: look.matte_outside > 0)
    )
    yield from _on("the matte is the same value everywhere", constant)
    yield from _on(f"the matte {_LOSS}", _where(looks, lambda look: look.matte_lossy))
    repeated = [number for number in _repeated_mattes(shot) if number not in constant]
    yield from _on("the matte is the same file as an earlier frame's, and the plate is not", repeated)
    yield from _on("the matte is the plate itself, not a matte of it", _plates_as_mattes(shot))
    hidden = _where(looks, lambda look: look.edge_hidden)
    yield from _on("the region hides the matte's whole edge, so F and the band metrics see nothing", hidden)


def _of_seconds(looks: Sequence[Look]) -> Iterator[ShotWarning]:
    same = _where(looks, lambda look: look.second_same)
    yield from _on("the second artist's matte is the first artist's file", same)
    flat = _where(looks, lambda look: _constant(look.second_range) and not _constant(look.matte_range))
    yield from _on("the second artist's matte is the same value everywhere, and the first artist's is not", flat)
    yield from _on(f"the second artist's matte {_LOSS}", _where(looks, lambda look: look.second_lossy))


def _of_inputs(shot: GoldenShot, looks: Sequence[Look]) -> Iterator[ShotWarning]:
    bad = {look.number: look.inputs_not_finite for look in looks if look.inputs_not_finite}
    yield from _on(f"a further input holds NaN or infinity, {_values(bad)}", list(bad))
    for port in sorted({port for frame in shot.frames for port in _ports(frame)}):
        lacking = [frame.number for frame in shot.frames if port not in _ports(frame)]
        # An image of one frame alone, such as a first mask, is meant to be so.
        if len(lacking) < len(shot.frames) - 1:
            yield from _on(f"the input {port} has no file", lacking)


def _of_plates(shot: GoldenShot, looks: Sequence[Look]) -> Iterator[ShotWarning]:
    yield from _on("the plate is the same value everywhere", _where(looks, lambda look: look.plate_constant))
    yield from _on("the plate is the same file as an earlier frame's", _repeated_plates(shot))
    bad = {look.number: look.plate_not_finite for look in looks if look.plate_not_finite}
    yield from _on(f"the plate holds NaN or infinity, {_values(bad)}; a contract says what becomes of them", list(bad))
    if shot.colour == "srgb":
        over = _where(looks, lambda look: _beyond(look.plate_range))
        yield from _on("the plate holds values outside 0 to 1, which sRGB has not", over)


def _of_shot(shot: GoldenShot) -> Iterator[ShotWarning]:
    if shot.missing:
        yield ShotWarning("frames are missing from the sequence, as was allowed", shot.missing)
    first = next((index for index, frame in enumerate(shot.frames) if frame.scored), 0)
    bare = [frame.number for frame in shot.frames[first:] if not frame.scored]
    yield from _on("no matte, as was allowed; the frame is fed and not scored", bare)
    if float(shot.pixel_aspect) != 1:
        yield ShotWarning(
            f"the pixel aspect is {float(shot.pixel_aspect):g}: state in the contract (pixel_aspect) whether the model "
            "takes such plates as they are or desqueezed"
        )
    yield from (ShotWarning(text) for text in _of_colour(shot))


def _of_colour(shot: GoldenShot) -> Iterator[str]:
    """What a colour and a file format say together that is unusual."""
    suffixes = {frame.plate.rpartition(".")[2] for frame in shot.frames}
    if shot.colour == "raw":
        yield "colour raw: no curve is applied, so only a model that takes raw values can be scored on this shot"
    elif shot.colour == "srgb" and "exr" in suffixes:
        yield "colour srgb, and the plates are OpenEXR, which is scene-linear as a rule"
    elif shot.colour == "scene-linear" and suffixes & {"png", "jpg", "jpeg"}:
        yield "colour scene-linear, and the plates are PNG or JPEG, which is sRGB as a rule"
    elif shot.colour in {"scene-linear", "srgb"} and "dpx" in suffixes:
        yield f"colour {shot.colour}, and the plates are DPX, which is a camera's log as a rule"


def _of_others(shot: GoldenShot, looks: Sequence[Look], others: Sequence[Outline]) -> Iterator[ShotWarning]:
    plates = tuple(frame.plate_sha256 for frame in shot.frames)
    mattes = tuple(frame.matte_sha256 for frame in shot.frames if frame.matte_sha256 is not None)
    # Frames on which nothing is cut out look alike in any two shots.
    flat = {look.number for look in looks if _constant(look.matte_range)}
    empty = {frame.matte_sha256 for frame in shot.frames if frame.number in flat}
    found: dict[str, list[str]] = {}
    for one in others:
        same = (_alike("plates", plates, one.plates), _alike("mattes", mattes, one.mattes, besides=empty))
        found.setdefault(" and ".join(filter(None, same)), []).append(one.shot)
    for what, names in found.items():
        if what:
            yield ShotWarning(f"the {what} are those of {_shots(names)}")


def _alike(
    kind: str, mine: Sequence[str], theirs: Sequence[str], *, besides: Collection[str | None] = frozenset()
) -> str:
    """Which files of another shot these are, as a phrase: all, or how many of how many; empty where it is none.

    A shot that was cut by a frame and added again counts twice in the judgement, as one that was added whole.
    """
    if mine == theirs:
        return kind
    own = set(mine)
    shared = own.intersection(theirs).difference(besides)
    return f"{len(shared)} of {len(own)} {kind}" if shared else ""


def _shots(names: Sequence[str]) -> str:
    first = list(dict.fromkeys(names))
    return f"shot {first[0]}" + (f" and {len(first) - 1} more" if len(first) > 1 else "")


def _repeated_plates(shot: GoldenShot) -> list[int]:
    """Frames with an earlier frame's plate."""
    first: dict[str, int] = {}
    return [frame.number for frame in shot.frames if first.setdefault(frame.plate_sha256, frame.number) != frame.number]


def _repeated_mattes(shot: GoldenShot) -> list[int]:
    """Frames with an earlier frame's matte on a plate of their own; a held frame has both again."""
    first: dict[str, str] = {}
    scored = [(frame, frame.matte_sha256) for frame in shot.frames if frame.matte_sha256 is not None]
    return [one.number for one, matte in scored if first.setdefault(matte, one.plate_sha256) != one.plate_sha256]


def _plates_as_mattes(shot: GoldenShot) -> list[int]:
    """Frames whose matte is a colour of the plate's own file; the alpha of that file is what a matte may be."""
    if shot.matte_object is not None or shot.matte_channel.rpartition(".")[2] not in _COLOURS:
        return []
    return [frame.number for frame in shot.frames if frame.matte_sha256 == frame.plate_sha256]


def _where(looks: Sequence[Look], test: Callable[[Look], bool]) -> list[int]:
    return [look.number for look in looks if test(look)]


def _constant(values: tuple[float, float] | None) -> bool:
    return values is not None and values[0] == values[1]


def _beyond(values: tuple[float, float] | None) -> bool:
    return values is not None and (values[0] < 0 or values[1] > 1)


def _values(counts: Mapping[int, int]) -> str:
    total = sum(counts.values())
    return f"{total} value{'s' if total > 1 else ''} in all"


def _ports(frame: GoldenFrame) -> set[str]:
    return {given.port for given in frame.inputs or ()}


def _on(what: str, frames: Sequence[int]) -> Iterator[ShotWarning]:
    if frames:
        yield ShotWarning(what, tuple(frames))
