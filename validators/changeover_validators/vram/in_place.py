"""Which operators of a release of onnxruntime write over an input or only rename it, out of the probed table.

Patches of one minor line share their answer, because only minor releases change kernels. What this leaves out: how the
table came about (`probes`).
"""

from functools import cache
from typing import Any

from packaging.version import InvalidVersion, Version

from changeover_registry.errors import UndecidedError
from changeover_validators.tables import rows

__all__ = ["Pair", "aliases", "in_place", "is_probed", "probed_operators"]

Pair = tuple[str, str, int, int]
"""Domain ("" for the standard's), operator, index of the input, index of the output."""


def in_place(version: str, provider: str) -> frozenset[Pair]:
    """The pairs where the output may take the input's buffer, if nothing later reads it and both have one size.

    Raises:
        UndecidedError: No runtime of that line was probed with that provider.
    """
    return _pairs(version, provider, "in_place")


def aliases(version: str, provider: str = "cpu") -> frozenset[Pair]:
    """The pairs where the output is the input under another shape, and no byte moves.

    Raises:
        UndecidedError: No runtime of that line was probed with that provider.
    """
    return _pairs(version, provider, "alias")


def is_probed(version: str, provider: str = "cpu") -> bool:
    """Whether a runtime of that line was asked."""
    return _row(version, provider) is not None


def probed_operators(version: str, provider: str = "cpu") -> frozenset[tuple[str, str]]:
    """Domain and name of every operator whose answer is known, whatever it is.

    Raises:
        UndecidedError: No runtime of that line was probed with that provider.
    """
    row = _known(version, provider)
    names = [*row["neither"], *(pair.split()[0] for key in ("in_place", "alias") for pair in row[key])]
    return frozenset(_named(name) for name in names)


@cache
def _pairs(version: str, provider: str, key: str) -> frozenset[Pair]:
    found = []
    for text in _known(version, provider)[key]:
        name, source, target = text.split()
        found.append((*_named(name), int(source), int(target)))
    return frozenset(found)


def _named(name: str) -> tuple[str, str]:
    domain, _, operator = name.rpartition(":")
    return domain, operator


def _known(version: str, provider: str) -> dict[str, Any]:
    row = _row(version, provider)
    if row is None:
        raise UndecidedError(
            "in-place table",
            where="tables/in-place.toml",
            expected=f"a row for onnxruntime {version} with the {provider} provider",
            actual="none",
            remedy="run python -m changeover_validators.vram.probes, or measure the model with that runtime",
        )
    return row


def _row(version: str, provider: str) -> dict[str, Any] | None:
    line = _line(version)
    for row in rows("in-place")["release"]:
        if row["provider"] == provider and line is not None and line in {_line(known) for known in row["versions"]}:
            found: dict[str, Any] = row
            return found
    return None


def _line(version: str) -> tuple[int, int] | None:
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None
    return parsed.major, parsed.minor
