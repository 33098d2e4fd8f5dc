"""Check 4, interface: what an artist connects and sets has not changed under them, and each loader can call it.

The candidate is compared with the current release: ports by name with channels and colour, knobs by name and kind, how
it is evaluated for each loader. A change with the same major version is refused for good; with a new major it may be
used, but only where a person pins it by name. Where one of the two is of another model no script moves from it to the
other, and of an adopted one nobody knows the interface: then nothing is compared, which is said. What this leaves out:
whether the picture is better (`golden`).
"""

from collections.abc import Iterator

from changeover_registry.names import Version
from changeover_registry.records.findings import Finding, NotApplicable, Passed, Refused
from changeover_registry.records.release import Interface, Knob, Port, Release, Variant

__all__ = ["check_interface", "interface_changes"]

_ONE_FRAME = ("nuke-inference", "mlserver", "flame")
"""Loaders that hand over one frame and take one back."""


def check_interface(candidate: Release, current: Release | None) -> tuple[Finding, ...]:
    """Findings of loaders first; then of the candidate against `current`, not applicable if there is none."""
    loaders = tuple(refusal for variant in candidate.variants for refusal in _loaders(variant))
    return (*loaders, _compared(candidate, current))


def interface_changes(candidate: Release, current: Release) -> tuple[str, ...]:
    """Each difference that an artist's script could notice, in one phrase; empty if there is none."""
    old, new = current.interface, candidate.interface
    return (
        *_ports("input", old.inputs, new.inputs),
        *_ports("output", old.outputs, new.outputs),
        *_knobs(old, new),
        *_evaluation(current, candidate),
    )


def _loaders(variant: Variant) -> Iterator[Refused]:
    contract = variant.contract
    one_frame = contract.evaluation == "stateless" and len(contract.inputs) == 1
    for loader in variant.loaders:
        if loader in _ONE_FRAME and not one_frame:
            yield Refused(
                check="interface",
                subject=variant.id,
                rule=f"loader {loader}",
                expected="stateless evaluation with one tensor in and one out",
                actual=f"{contract.evaluation}, {len(contract.inputs)} in and {len(contract.states)} states",
                remedy="ask the vendor for a variant that this loader can call, or use the loader python",
            )


def _compared(candidate: Release, current: Release | None) -> Finding:
    if current is None:
        return NotApplicable(check="interface", rule="no-baseline", detail="nothing is in use yet")
    if candidate.model != current.model:
        detail = f"{current.ref()} is of another model: no node that holds it moves to this one by itself"
        return NotApplicable(check="interface", rule="other-model", detail=detail)
    if candidate.adopted or current.adopted:
        adopted = candidate if candidate.adopted else current
        return NotApplicable(
            check="interface",
            rule="adopted",
            detail=f"nobody knows the interface of {adopted.ref()}, which was adopted",
        )
    changes = interface_changes(candidate, current)
    if not changes:
        return Passed(check="interface", detail=f"as in {current.version}")
    new_major = Version.parse(candidate.version).major > Version.parse(current.version).major
    model = f"{candidate.model}@{candidate.version}"
    return Refused(
        check="interface",
        rule="interface moves by itself" if new_major else "interface",
        expected=f"the interface of {current.version}" + ("" if new_major else ", or a new major version"),
        actual="; ".join(changes),
        remedy=f"pin it by name: changeover pin {model}" if new_major else "ask the vendor for a new major version",
    )


def _ports(kind: str, old: tuple[Port, ...], new: tuple[Port, ...]) -> Iterator[str]:
    before, after = {port.name: port for port in old}, {port.name: port for port in new}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{kind} {name} is gone"
        elif name not in before:
            yield f"{kind} {name} is new"
        else:
            yield from _port(f"{kind} {name}", before[name], after[name])
    common = before.keys() & after.keys()
    if [port.name for port in old if port.name in common] != [port.name for port in new if port.name in common]:
        yield f"{kind}s are in another order"


def _port(what: str, old: Port, new: Port) -> Iterator[str]:
    if old.channels != new.channels:
        yield f"{what} has channels {','.join(new.channels)} instead of {','.join(old.channels)}"
    if old.colour != new.colour:
        yield f"{what} is {new.colour} instead of {old.colour}"


def _knobs(old: Interface, new: Interface) -> Iterator[str]:
    before, after = {knob.name: knob for knob in old.knobs}, {knob.name: knob for knob in new.knobs}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"knob {name} is gone"
        elif name not in before:
            yield f"knob {name} is new"
        elif _signature(before[name]) != _signature(after[name]):
            yield f"knob {name} is {_text(after[name])} instead of {_text(before[name])}"


def _signature(knob: Knob) -> tuple[str, tuple[str, ...]]:
    return knob.kind, knob.choices


def _text(knob: Knob) -> str:
    return knob.kind + (f" of {','.join(knob.choices)}" if knob.choices else "")


def _evaluation(current: Release, candidate: Release) -> Iterator[str]:
    before, after = _evaluations(current), _evaluations(candidate)
    for loader in sorted(before.keys() & after.keys()):
        if before[loader] != after[loader]:
            yield f"{loader} is evaluated as {'/'.join(after[loader])} instead of {'/'.join(before[loader])}"


def _evaluations(release: Release) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for variant in release.variants:
        for loader in variant.loaders:
            found.setdefault(loader, set()).add(variant.contract.evaluation)
    return {loader: tuple(sorted(values)) for loader, values in found.items()}
