"""How golden sets and shots are shown to a person, and what they are as JSON."""

from collections.abc import Callable, Sequence
from pathlib import Path

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import Approval, GoldenFrame, GoldenSet, GoldenShot
from changeover_registry.records.policy import GoldenPolicy
from changeover_updater.cli._output import escape, mark, rows, say
from changeover_validators.golden.history import (
    ShotVersion,
    Step,
    all_refs,
    current_refs,
    set_history,
    shot_versions,
    steps,
)
from changeover_validators.golden.kept import Verified
from changeover_validators.golden.readers import SITE
from changeover_validators.golden.sets import list_sets, read_set, read_shot, shot_folder
from changeover_validators.golden.spread import FEW, Forecast

__all__ = ["Answer", "damage", "one_set", "one_shot", "power", "sets", "shots", "users"]

Answer = tuple[object, Callable[[], None]]
"""What ``--json`` prints, and what prints the same for a person."""

_STEPS = 20
"""How many of a set's last changes are shown."""


def users(golden_set: GoldenSet) -> str:
    """Who may use a set, in a few words."""
    if golden_set.owner_show is None:
        return "for every channel"
    others = ", ".join("site (stable, beta)" if reader == SITE else reader for reader in golden_set.readers)
    return f"owned by show {golden_set.owner_show}, " + (f"read by {others}" if others else "for that show alone")


def sets(golden: Path) -> Answer:
    """All sets of a site."""
    found = list_sets(golden)
    lines = [
        (
            one.name,
            str(one.version),
            str(len(one.shots)),
            str(len(one.pending or ())),
            one.owner_show or "-",
            ", ".join(one.readers) or "-",
            "retired" if one.retired else "",
        )
        for one in found
    ]
    columns = ("set", "version", "scored", "waiting", "show", "readers", "")
    return [_dump(one) for one in found], lambda: rows("golden sets", columns, lines)


def shots(golden: Path, name: str) -> Answer:
    """The shots of a set that are scored or wait."""
    golden_set = read_set(golden, name)
    waits = set(golden_set.pending or ())
    found = [(ref, read_shot(golden, name, ref)) for ref in current_refs(golden_set)]
    lines = [
        (
            shot.shot,
            shot.alias,
            str(shot.version),
            str(len(shot.frames)),
            f"{shot.width}x{shot.height}",
            str(shot.level),
            "waits for approval" if ref in waits else "scored",
        )
        for ref, shot in found
    ]
    answer = [{**_dump(shot), "state": "waiting" if ref in waits else "scored"} for ref, shot in found]
    columns = ("shot", "alias", "version", "frames", "size", "level", "state")
    return answer, lambda: rows(name, columns, lines)


def one_set(golden: Path, name: str) -> Answer:
    """A set with its approvals and its history."""
    history = set_history(golden, name, last=_STEPS + 1)
    told, golden_set = steps(history)[-_STEPS:], history[-1]
    answer = {"set": _dump(golden_set), "history": [_step(step) for step in told]}
    return answer, lambda: _show_set(golden_set, told)


def one_shot(golden: Path, name: str, shot: str) -> Answer:
    """All that is known of a shot: the versions in use whole, the others by name.

    Raises:
        InvalidInputError: The set never had such a shot.
    """
    golden_set = read_set(golden, name)
    versions = shot_versions(golden_set, all_refs(golden, golden_set), shot)
    if not versions:
        known = ", ".join(ref.shot for ref in current_refs(golden_set)) or "it has none"
        raise InvalidInputError(
            "golden shot",
            where=f"{name}/{shot}",
            expected=f"a shot of the set ({known})",
            actual="no such shot",
            remedy=f"see changeover golden list {name}",
        )
    records = [read_shot(golden, name, version.ref) for version in versions]
    answer = [_version(version, record) for version, record in zip(versions, records, strict=True)]

    def show() -> None:
        for version, record in zip(versions, records, strict=True):
            _show_version(version, record, shot_folder(golden, record))

    return answer, show


def damage(name: str, verified: Verified) -> Answer:
    """Every file that is not what was added."""
    answer = {
        "set": name,
        "shots": verified.shots,
        "files": verified.files,
        "damaged": [
            {"shot": one.shot, "version": one.version, "frame": one.frame, "file": str(one.path), "found": one.found}
            for one in verified.damage
        ],
    }

    def show() -> None:
        for one in verified.damage:
            say(f"{mark('no')} {escape(str(one))}")
        if not verified.damage:
            say(f"{mark('ok')} {escape(name)}: {verified.shots} shots, {verified.files} files as they were added")

    return answer, show


def power(golden_set: GoldenSet, policy: GoldenPolicy, found: Sequence[Forecast]) -> Answer:
    """What a set can tell, metric by metric."""
    answer = {
        "set": golden_set.name,
        "shots": len(golden_set.shots),
        "waiting": len(golden_set.pending or ()),
        "confidence": policy.confidence,
        "min_shots": policy.min_shots,
        "metrics": [_forecast(one) for one in found],
    }
    return answer, lambda: _show_power(golden_set, policy, found)


def _forecast(one: Forecast) -> dict[str, object]:
    return {
        "metric": one.gate.name,
        "margin": str(one.gate.margin),
        "spread": f"{one.spread.sd:.6f}",
        "comparisons": one.spread.comparisons,
        "differences": one.spread.differences,
        "chance": f"{one.chance:.4f}",
        "shots_needed": one.needed,
        "smallest_margin": None if one.smallest is None else f"{one.smallest:.6f}",
    }


def _show_power(golden_set: GoldenSet, policy: GoldenPolicy, found: Sequence[Forecast]) -> None:
    shots_, waits = len(golden_set.shots), len(golden_set.pending or ())
    say(
        f"golden set [bold]{escape(golden_set.name)}[/]: {shots_} shots are scored"
        + (f", {waits} wait for approval" if waits else "")
    )
    if shots_ < policy.min_shots:
        asked = f"the policy asks for {policy.min_shots} shots"
        say(f"{mark('open')} {asked}: with fewer no release is accepted on its scores alone")
    lines = [
        (
            escape(one.gate.label),
            str(one.gate.margin),
            f"{one.spread.sd:.4f}",
            f"{100 * one.chance:.0f} %",
            "over 1000" if one.needed is None else str(max(one.needed, policy.min_shots)),
            "-" if one.smallest is None else f"{one.smallest:.4f}",
            str(one.spread),
        )
        for one in found
    ]
    columns = ("metric", "margin", "spread", f"with {shots_} shots", "shots for 80 %", "margin for 80 %", "spread from")
    rows("the chance that an equal release is accepted", columns, lines)
    least = min(one.spread.comparisons for one in found)
    if least < FEW:
        told = "is assumed" if not least else f"comes from {least} comparison{'s' if least > 1 else ''}"
        say(f"{mark('open')} the spread {told}: with fewer than {FEW} the next one may change this table much")
    say("  it is accepted only where every metric is, so the least chance counts; a worse release has less")


def _show_set(golden_set: GoldenSet, told: Sequence[Step]) -> None:
    say(f"golden set [bold]{escape(golden_set.name)}[/]: version {golden_set.version}; {users(golden_set)}")
    if golden_set.retired is not None:
        say(f"{mark('no')} retired: {escape(golden_set.retired)}")
    scored = [(ref.shot, str(ref.version), *_approval(ref.approval)) for ref in golden_set.shots]
    rows("scored", ("shot", "version", "approved by", "at", "note"), scored, empty="nothing is scored yet")
    if golden_set.pending:
        waits = [(ref.shot, str(ref.version)) for ref in golden_set.pending]
        rows("waiting", ("shot", "version"), waits)
    if golden_set.retired_shots:
        gone = [
            (one.shot, str(one.version), escape(one.reason), escape(one.by), one.at) for one in golden_set.retired_shots
        ]
        rows("retired", ("shot", "version", "why", "by", "at"), gone)
    lines = [(str(s.version), s.at or "-", escape(s.by or "-"), escape("; ".join(s.changes))) for s in reversed(told)]
    rows("history", ("version", "when", "who", "what"), lines)


def _approval(approval: Approval | None) -> tuple[str, str, str]:
    if approval is None:
        return "nobody", "-", "added before there were approvals"
    return escape(approval.name), approval.at, escape(approval.note or "")


def _show_version(version: ShotVersion, shot: GoldenShot, folder: Path) -> None:
    say(f"[bold]{escape(shot.set)}/{shot.shot}[/] version {shot.version}: {_state(version)}")
    if version.state == "replaced":
        return
    for label, text in _facts(version, shot, folder):
        say(f"  {label:<10} {escape(text)}")
    for note in shot.notes or ():
        say(f"  {mark('open')} {escape(note)}")


def _state(version: ShotVersion) -> str:
    if version.retired is not None:
        gone = version.retired
        return escape(f"retired by {gone.by}, {gone.at}: {gone.reason}")
    return {"waiting": "waits for approval", "scored": "scored", "replaced": "replaced by a later version"}[
        version.state
    ]


def _facts(version: ShotVersion, shot: GoldenShot, folder: Path) -> list[tuple[str, str]]:
    """What there is to say of a shot, as label and text; what it does not have is left out."""
    approval = version.ref.approval
    by = f"{approval.name}, {approval.at}, from the account {approval.by}" if approval else None
    facts: tuple[tuple[str, str | None], ...] = (
        ("approved", by),
        ("note", approval.note if approval else None),
        ("added", f"{shot.added_by}, {shot.added_at}"),
        ("alias", shot.alias),
        ("level", str(shot.level)),
        ("frames", _frames(shot)),
        ("missing", ", ".join(map(str, shot.missing)) if shot.missing else None),
        ("size", f"{shot.width}x{shot.height}, pixel aspect {float(shot.pixel_aspect):g}"),
        ("colour", shot.colour + (f" of {shot.ocio_config}" if shot.ocio_config else "")),
        ("matte", _matte(shot)),
        ("second", _second(shot)),
        ("inputs", "; ".join(_inputs(shot.frames)) or None),
        ("region", f"{shot.region}, channel {shot.region_channel}" if shot.region else None),
        ("files", str(folder)),
    )
    return [(label, text) for label, text in facts if text is not None]


def _frames(shot: GoldenShot) -> str:
    first, last = shot.frames[0].number, shot.frames[-1].number
    pre_roll = sum(not frame.scored for frame in shot.frames)
    return f"{first} to {last}, {len(shot.frames)} in all" + (f", the first {pre_roll} not scored" if pre_roll else "")


def _matte(shot: GoldenShot) -> str:
    if shot.matte_object is not None:
        return f"object {shot.matte_object} of the Cryptomatte {shot.matte_channel}"
    return f"channel {shot.matte_channel}"


def _second(shot: GoldenShot) -> str | None:
    frames = sum(frame.second is not None for frame in shot.frames)
    read = "read as the mattes are" if shot.second_channel is None else f"channel {shot.second_channel}"
    return f"another artist's mattes on {frames} frames, {read}" if frames else None


def _inputs(frames: Sequence[GoldenFrame]) -> list[str]:
    """Every further input, with its channels and how many frames have it."""
    found: dict[str, int] = {}
    for frame in frames:
        for one in frame.inputs or ():
            name = f"{one.port} ({', '.join(one.channels)})"
            found[name] = found.get(name, 0) + 1
    return [f"{name} on {count} frames" for name, count in found.items()]


def _version(version: ShotVersion, shot: GoldenShot) -> dict[str, object]:
    approval, retired = version.ref.approval, version.retired
    return {
        "state": version.state,
        "approval": None if approval is None else approval.model_dump(mode="json", exclude_none=True),
        "retired": None if retired is None else retired.model_dump(mode="json", exclude_none=True),
        "digest": version.ref.digest,
        "record": _dump(shot),
    }


def _step(step: Step) -> dict[str, object]:
    return {"version": step.version, "at": step.at, "by": step.by, "changes": list(step.changes)}


def _dump(record: GoldenSet | GoldenShot) -> dict[str, object]:
    return dict(record.model_dump(mode="json", exclude_none=True))
