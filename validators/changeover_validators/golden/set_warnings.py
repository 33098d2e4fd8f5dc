"""What a verdict says of the set that it was made on, where that makes it weigh less. Pure, needs no numpy.

A set is changed by people who also want a release: a hard shot is retired, a soft one is added twice, a truth is
replaced. Each may be right, and each is said in the verdict, so that whoever reads an accept knows what came before.
"""

from collections.abc import Collection, Iterator, Sequence

from changeover_registry.records.golden import GoldenSet, GoldenShot

__all__ = ["changes_since", "repeated_shots", "without_bar"]

_LISTED = 5
"""How many shots a sentence names."""


def repeated_shots(shots: Sequence[GoldenShot]) -> Iterator[str]:
    """One sentence for each shot that has a plate of an earlier one: what is there twice counts twice."""
    first: dict[str, GoldenShot] = {}
    for shot in shots:
        plates = {frame.plate_sha256 for frame in shot.frames if frame.scored}
        others = [first[plate].alias for plate in plates if plate in first]
        if others:
            names = _names(sorted(set(others)))
            yield f"{shot.alias}: {len(others)} of its {len(plates)} plates are also in {names}; both count"
        for plate in plates:
            first.setdefault(plate, shot)


def changes_since(before: GoldenSet, now: GoldenSet) -> str:
    """What is scored now and was not, or not any more, as a phrase; empty where the same shots are."""
    was, are = ({ref.shot: ref.version for ref in one.shots} for one in (before, now))
    gone = [name for name in was if name not in are]
    replaced = [name for name in was if name in are and was[name] != are[name]]
    added = [name for name in are if name not in was]
    kinds = (("no longer scored", gone), ("replaced", replaced), ("added", added))
    return "; ".join(f"{what}: {_names(names)}" for what, names in kinds if names)


def without_bar(shots: Sequence[GoldenShot], compared: Collection[str]) -> str:
    """A sentence on the shots of which no approved score is known, where a release is in use; empty where all have one.

    A new shot has none, and neither has one whose truth, threshold or golden class is new: the ratchet begins again.
    """
    bare = [shot.alias for shot in shots if shot.shot not in compared]
    return f"{_names(bare)}: no score approved before to compare with, so the ratchet says nothing" if bare else ""


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
