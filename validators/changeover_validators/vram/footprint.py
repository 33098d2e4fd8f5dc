"""What a loaded model takes, split by what is paid once and what each instance pays, and what of it must fit at once.

A process pays the runtime's context once; weights and arena are paid by every node that holds the model. While a script
moves from one release to the next its nodes move one by one, and each loads the new release before it drops the old.
Pure arithmetic; what this leaves out: predictions, budgets (`checks/budget.py`) and findings (`checks/vram.py`).
"""

from dataclasses import dataclass

from changeover_registry.records.memory import MemoryAnswer, MemoryLabel
from changeover_registry.records.policy import Policy

__all__ = ["Footprint", "Need", "Room", "footprint_of", "instances_of", "need_of"]

_INSTANCES = 2
"""How many nodes of one script hold a model at once, where the policy does not say."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a process pays once (context, libraries), and those of each instance (weights, arena, bound I/O)."""

    context_bytes: int
    instance_bytes: int
    label: MemoryLabel = "modelled"

    @property
    def one_bytes(self) -> int:
        """A process with one instance."""
        return self.context_bytes + self.instance_bytes


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes at the worst moment: with all instances alone, and while the release in use is still resident.

    `changeover_bytes` is None where nothing is in use or its memory is not known. `both` says whether the policy has
    old and new resident together.
    """

    alone_bytes: int
    changeover_bytes: int | None
    both: bool

    @property
    def bytes(self) -> int:
        """What a budget is compared with."""
        return self.changeover_bytes if self.both and self.changeover_bytes is not None else self.alone_bytes


@dataclass(frozen=True, slots=True)
class Room:
    """A budget, and all else that decides whether a footprint fits in it."""

    allowed_bytes: int
    policy: Policy
    old: Footprint | None = None

    def need(self, footprint: Footprint) -> Need:
        """What of `footprint` must fit at once."""
        return need_of(footprint, self.policy, self.old)

    def fits(self, answer: MemoryAnswer) -> bool:
        """Whether a prediction is within the budget."""
        return self.need(footprint_of(answer)).bytes <= self.allowed_bytes

    def share(self, spare_bytes: int) -> int:
        """What each instance gets of bytes that are left over, or has to give of those that are missing."""
        return spare_bytes // instances_of(self.policy)


def footprint_of(answer: MemoryAnswer) -> Footprint:
    """An answer's memory at the high end of its range."""
    context = answer.part("context")
    return Footprint(context, answer.total_bytes - context, answer.label)


def instances_of(policy: Policy) -> int:
    """How many instances of a model one script holds at once."""
    return policy.vram.instances or _INSTANCES


def need_of(new: Footprint, policy: Policy, old: Footprint | None = None) -> Need:
    """What must fit at once.

    With both releases resident the most is there when the first node moves (all old ones and one new) or when the last
    one does (all new ones and one old).
    """
    number, both = instances_of(policy), policy.vram.changeover != "unload-first"
    alone = new.context_bytes + number * new.instance_bytes
    if old is None:
        return Need(alone, None, both)
    more, less = max(new.instance_bytes, old.instance_bytes), min(new.instance_bytes, old.instance_bytes)
    return Need(alone, max(new.context_bytes, old.context_bytes) + number * more + less, both)
