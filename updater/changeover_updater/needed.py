"""Which of the vendors' releases a command needs to know, so that ten thousand others cost it nothing. Pure.

An index names every release of a model and is small; a release's record is read, hashed and checked, which takes a
millisecond. A promotion needs the record of what it promotes and of what that takes the place of.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from changeover_registry.errors import InvalidInputError
from changeover_registry.names import Version
from changeover_registry.records.choice import Baseline, Choice, Override, Pin, Pointer, Share
from changeover_registry.records.repository import IndexEntry

__all__ = ["ALL", "Needed"]


@dataclass(frozen=True, slots=True)
class Needed:
    """Whose indexes and which records are read.

    Attributes:
        models: Whose indexes are read, as ``vendor/name`` or the bare name; None for all.
        releases: Whose records are read for their own sake: such a name, and a version; None for all.
        named: Digests of records that are read too, since a choice names them.
    """

    models: frozenset[str] | None = None
    releases: frozenset[tuple[str, str]] | None = None
    named: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *texts: str) -> "Needed":
        """What a decision on these needs: ``MODEL@VERSION``, or a model alone."""
        parts = [text.partition("@") for text in texts]
        releases = frozenset((name, _version(version)) for name, at, version in parts if at)
        return cls(frozenset(name for name, _, _ in parts), releases)

    @classmethod
    def chosen(cls, releases: Iterable[tuple[str, str]]) -> "Needed":
        """Every index, and the records of what the choices name and of these models' versions."""
        return cls(None, frozenset(releases))

    def beside(self, choices: Iterable[Choice]) -> "Needed":
        """As this, with all that the choices in force name, and the models that its own are compared with."""
        choices = tuple(choices)
        named, models = self.named.union(*map(_named_by, choices)), self.models
        if models is not None:
            instead = (entry for choice in choices for entry in choice.baselines or ())
            models |= {b.release.model for b in instead if models & {b.model, b.model.partition("/")[2]}}
        return replace(self, models=models, named=named)

    def models_of(self, vendor: str, followed: Collection[str] | None) -> Collection[str] | None:
        """The bare names of a vendor's models whose indexes are read, of those that are `followed`; None for all."""
        if self.models is None:
            return followed
        named = (name.rpartition("/") for name in self.models)
        mine = {bare for of, _, bare in named if of in {"", vendor}}
        return mine if followed is None else mine & set(followed)

    def takes(self, model: str, entry: IndexEntry) -> bool:
        """Whether the record of a release of ``vendor/name`` is read."""
        if self.releases is None or entry.record in self.named:
            return True
        return not self.releases.isdisjoint({(model, entry.version), (model.partition("/")[2], entry.version)})


ALL = Needed()
"""Every release that a trusted vendor lists."""


def _named_by(choice: Choice) -> frozenset[str]:
    entries: tuple[Pointer | Share | Pin | Override | Baseline, ...] = (
        *choice.channels,
        *choice.shares,
        *choice.pins,
        *choice.overrides,
        *(choice.baselines or ()),
    )
    return frozenset(entry.release.digest for entry in entries)


def _version(text: str) -> str:
    """A version as records have it; what is none names no release, and whoever looks for it says so."""
    try:
        return str(Version.parse(text))
    except InvalidInputError:
        return text
