"""What a choice changes, line by line, as whoever signs it must see it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from changeover_registry.records.choice import Baseline, Choice, Override, Pin, Pointer, Share, VerdictKey

__all__ = ["Difference", "differences", "new_baselines", "new_pins", "new_pointers"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a choice changes: what it is, what holds now, and what would."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.what}: {self.before} -> {self.after}"


def differences(before: Choice | None, after: Choice) -> tuple[Difference, ...]:
    """Everything that `after` changes of `before` (None: there was no choice), entry and number aside."""
    return tuple(
        Difference(what, old.get(what, "nothing"), new.get(what, "nothing"))
        for old, new in [(_lines(before) if before else {}, _lines(after))]
        for what in sorted({*old, *new})
        if old.get(what) != new.get(what)
    )


def new_pointers(before: Choice | None, after: Choice) -> tuple[Pointer | Share, ...]:
    """The pointers and shares whose release, or the verdict that it was chosen by, `before` did not hold there."""
    old = {_chosen(entry) for entry in _entries(before)} if before else set()
    return tuple(entry for entry in _entries(after) if _chosen(entry) not in old)


def new_pins(before: Choice | None, after: Choice) -> tuple[Pin, ...]:
    """The pins that `before` did not hold."""
    old = before.pins if before else ()
    return tuple(pin for pin in after.pins if pin not in old)


def new_baselines(before: Choice | None, after: Choice) -> tuple[Baseline, ...]:
    """What is compared with what, where `before` did not say so."""
    old = (before.baselines or ()) if before else ()
    return tuple(baseline for baseline in after.baselines or () if baseline not in old)


def _entries(choice: Choice) -> tuple[Pointer | Share, ...]:
    return (*choice.channels, *choice.shares)


def _chosen(entry: Pointer | Share) -> tuple[str, str, str | None]:
    return (entry.channel, str(entry.release), entry.verdict)


def _lines(choice: Choice) -> Mapping[str, str]:
    """Each line by what it is of. Where several are of the same, all are shown: nothing stands behind another one."""
    found: dict[str, str] = {}
    for what, line in _each(choice):
        found[what] = f"{found[what]}; and {line}" if what in found else line
    return found


def _each(choice: Choice) -> Iterator[tuple[str, str]]:
    for pointer in choice.channels:
        yield f"channel {pointer.channel}, {pointer.release.model}", _release(pointer)
    for share in choice.shares:
        yield f"share of {share.channel}, {share.release.model}", _share(share)
    for pin in choice.pins:
        where = "/".join(filter(None, (pin.show, pin.sequence, pin.shot))) or "site"
        yield f"pin for {where}, {pin.release.model}", f"{_release(pin)}: {pin.reason}"
    for number, override in enumerate(choice.overrides, 1):
        yield f"override {number}", _override(override)
    for baseline in choice.baselines or ():
        where = f"baseline of {baseline.channel}, {baseline.model}"
        yield where, f"{baseline.release}: {baseline.reason}"
    for approval in choice.client_approvals or ():
        yield f"client approval, {approval.release}", f"by {approval.by} at {approval.when}: {approval.evidence}"
    for key in choice.verdict_keys:
        yield f"verdict key {key.key_id[:12]}", _verdict_key(key)
    yield "policy", f"sha256 {choice.policy[:12]}" if choice.policy else "none"
    if choice.ext:
        yield "other keys", ", ".join(sorted(choice.ext))


def _release(entry: Pointer | Pin | Share) -> str:
    by = f"by verdict {entry.verdict[:12]}" if entry.verdict else "without a verdict"
    resumed = f", failures until {entry.resumed} forgiven" if not isinstance(entry, Pin) and entry.resumed else ""
    return f"{entry.release} {by}{resumed}"


def _share(share: Share) -> str:
    names = f", names {' '.join(share.names)}" if share.names else ""
    classes = f", classes {' '.join(name[:12] for name in share.classes)}" if share.classes else ""
    return f"{_release(share)}: {share.percent} %{names}{classes}, {share.state}"


def _override(override: Override) -> str:
    checks = ", ".join(override.checks)
    return f"{checks} for {override.release} until {override.until}, by {override.by}: {override.reason}"


def _verdict_key(key: VerdictKey) -> str:
    return f"{key.key_type} key of {key.owner}, sha256 {key.key_id}"
