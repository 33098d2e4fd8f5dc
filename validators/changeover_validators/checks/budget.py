"""What the policy leaves of a host's memory for models: one budget a card, an instance of a divided card, or the RAM.

A budget starts from total memory, so the same facts and policy always give the same one: total less what the driver
reserves, less the desktop where a display may hang on the card, less Nuke's own, less a headroom that may differ
between cards with and without a display. The runtime's context is a part of what a model takes, not of what is kept.
Free memory is read here too (`free_bytes`), for the one moment at which it counts. What this leaves out: what a model
takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, MigInstance
from changeover_registry.records.policy import Policy

__all__ = ["MIB", "Budget", "Kept", "budget", "budgets", "free_bytes", "mib"]

MIB = 1 << 20
"""Bytes in a MiB."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One amount that models may not take, in bytes: ``reserved``, ``display``, ``Nuke``, ``headroom``, ``others``."""

    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What models may take of one device.

    `device` is the UUID (empty where it is not known) or ``ram``; `gpu` is the product's name, None for the RAM.
    """

    device: str
    name: str
    total_bytes: int
    kept: tuple[Kept, ...]
    gpu: str | None = None

    @property
    def allowed_bytes(self) -> int:
        """Bytes for models, context included; never negative."""
        return max(0, self.total_bytes - sum(part.bytes for part in self.kept))

    def terms(self) -> str:
        """How it came about, in MiB, for a person."""
        parts = ", ".join(f"{part.bytes // MIB} {part.what}" for part in self.kept if part.bytes)
        return f"{self.name}: {self.total_bytes // MIB}" + (f" less {parts}" if parts else "")


def budget(facts: HostFacts, policy: Policy, provider: str) -> Budget | Unknown:
    """The budget that decides for ``cuda`` or ``cpu`` on this host.

    With `HostFacts.nuke_gpu` that card's (or that instance's), else the least over all, because Nuke may be set to any;
    one that is unknown makes the least unknown.
    """
    found = budgets(facts, policy, provider)
    if isinstance(found, Unknown):
        return found
    unknown = [item for item in found if isinstance(item, Unknown)]
    if unknown:
        return min(unknown, key=lambda item: item.unknown)
    known = [item for item in found if isinstance(item, Budget)]
    return min(known, key=lambda item: (item.allowed_bytes, item.name, item.device))


def budgets(facts: HostFacts, policy: Policy, provider: str) -> tuple[Budget | Unknown, ...] | Unknown:
    """One budget for each device that a model might be loaded on, in the order of the facts; never an empty tuple."""
    if provider == "cpu":
        return (_ram(facts, policy),)
    cards = _cards(facts)
    if isinstance(cards, Unknown):
        return cards
    return tuple(_of(card, gpu, policy) for gpu, card in cards)


def free_bytes(facts: HostFacts) -> int | Unknown:
    """What is free at the moment of the facts, on the device that decides: the one of Nuke, else the least over all."""
    cards = _cards(facts)
    if isinstance(cards, Unknown):
        return cards
    found = [card if isinstance(card, Unknown) else card.free_mib for _, card in cards]
    unknown = [item for item in found if isinstance(item, Unknown)]
    if unknown:
        return min(unknown, key=lambda item: item.unknown)
    return min(item for item in found if isinstance(item, int)) * MIB


def mib(size_bytes: int) -> int:
    """Whole MiB, rounded up, so that a line never says that 8 of 8 does not fit."""
    return -(-size_bytes // MIB)


_Card = Gpu | MigInstance


def _cards(facts: HostFacts) -> tuple[tuple[Gpu, _Card | Unknown], ...] | Unknown:
    """The devices that count: each whole card, and each instance of a divided one, with the card that it is of."""
    if isinstance(facts.gpus, Unknown):
        return facts.gpus
    found = tuple((gpu, card) for gpu in facts.gpus for card in _parts(gpu))
    if not found:
        return Unknown(unknown="no GPU on this host")
    if facts.nuke_gpu is None:
        return found
    chosen = _named(found, facts.nuke_gpu)
    return chosen or Unknown(unknown=f"Nuke is set to {facts.nuke_gpu}, which is not among the GPUs of this host")


def _named(cards: Iterable[tuple[Gpu, _Card | Unknown]], uuid: str) -> tuple[tuple[Gpu, _Card | Unknown], ...]:
    """The device of that UUID; the UUID of a divided card stands for all of its instances."""
    cards = tuple(cards)
    own = tuple((gpu, card) for gpu, card in cards if not isinstance(card, Unknown) and card.uuid == uuid)
    return own or tuple((gpu, card) for gpu, card in cards if gpu.uuid == uuid)


def _parts(gpu: Gpu) -> tuple[_Card | Unknown, ...]:
    if gpu.mig is False:
        return (gpu,)
    if gpu.mig is True and isinstance(gpu.instances, tuple) and gpu.instances:
        return gpu.instances
    if isinstance(gpu.mig, Unknown):
        return (Unknown(unknown=f"whether {gpu.name} is divided into instances: {gpu.mig.unknown}"),)
    why = f": {gpu.instances.unknown}" if isinstance(gpu.instances, Unknown) else ""
    return (Unknown(unknown=f"{gpu.name} is divided into instances, and their memory is not known{why}"),)


def _of(card: _Card | Unknown, gpu: Gpu, policy: Policy) -> Budget | Unknown:
    if isinstance(card, Unknown):
        return card
    if isinstance(card.total_mib, Unknown):
        return card.total_mib
    if isinstance(card.reserved_mib, Unknown):
        return card.reserved_mib
    name = gpu.name if card is gpu else f"{gpu.name} instance {_profile(card)}"
    kept = (Kept("reserved", card.reserved_mib * MIB), *_policy_keeps(gpu, policy))
    return Budget(card.uuid if isinstance(card.uuid, str) else "", name, card.total_mib * MIB, kept, gpu.name)


def _profile(card: _Card) -> str:
    profile = getattr(card, "profile", None)
    return profile if isinstance(profile, str) else "of unknown profile"


def _policy_keeps(gpu: Gpu, policy: Policy) -> tuple[Kept, ...]:
    """What the policy keeps. A display that is not known counts as one: a reserve too few costs a crash."""
    vram, shows = policy.vram, gpu.display is not False
    own = vram.display_headroom_mib if shows else vram.compute_headroom_mib
    return (
        Kept("for the display", (vram.display_reserve_mib if shows else 0) * MIB),
        Kept("for Nuke", vram.nuke_baseline_mib * MIB),
        Kept("headroom", (vram.headroom_mib if own is None else own) * MIB),
    )


def _ram(facts: HostFacts, policy: Policy) -> Budget | Unknown:
    if isinstance(facts.ram_mib, Unknown):
        return facts.ram_mib
    total = facts.ram_mib * MIB
    allowed = int(total * Decimal(policy.hardware.ram_share))
    return Budget("ram", "RAM", total, (Kept("for everything else", max(0, total - allowed)),))
