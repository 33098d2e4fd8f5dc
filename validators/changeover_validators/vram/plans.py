"""Which memory plan an operating point runs under at one tensor size: the one that needs least, found by simulation.

No setting is best for all models: growth as requested saves what powers of two waste, one region of the right size
saves what regions that never merge waste, and a memory pattern saves or costs. So each is simulated for this model at
this size, over several sessions. What counts is the most that is needed at any moment, warm-up included, at the high
end of the range: a card must have that, however little is held later. Of equals the one that stands first here is
taken, and the runtime's own settings stand first. Nothing is measured and nothing is random.

Some are simulated and told, and never taken. Giving regions back after warm-up: warm-up itself needs no less. Frozen
shapes and cuDNN's settings: the runtime then computes in another way, and no plan may change an answer. A first region
on a GPU that nobody calibrated: what its libraries take is not known well enough to lay out one region by.

Left out: giving regions back after every run, which trades speed for the level between frames; how a plan is applied
(`runtimes.memory_plan`).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan, PartName
from changeover_validators.vram.predictor import Predictor

__all__ = ["LARGEST_CHUNK", "Choice", "PassedOver", "choose_plan"]

LARGEST_CHUNK = 2**31 - 1
"""The largest first region that onnxruntime can be told: a 32-bit integer."""

_MARGIN = 100
"""A first region is larger by a hundredth than the simulation needs: a byte too few would cost a second region."""
_ROUND = 256
_FINE = 256
"""The search for a first region ends when it is known to this share."""
_GROWTH = 16
_REGION = 1 << 30
"""The least that a second region adds beside the largest first one."""
_OWN = "the runtime's own"
_OF_THE_PLAN: tuple[PartName, ...] = ("weights", "activations", "workspace", "fragmentation")


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A candidate that was not taken: its name, what it would have needed at its most (None: not told), and why.

    The figure is weights, arena and workspace; the context and what is bound to the session are the same for all.
    """

    name: str
    plan: MemoryPlan
    need_bytes: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan, its name, the answer under it, and every other candidate with why it was passed over."""

    name: str
    plan: MemoryPlan
    answer: MemoryAnswer
    passed_over: tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What a plan needs at its most."""

    name: str
    plan: MemoryPlan
    answer: MemoryAnswer
    need_bytes: int


def choose_plan(predictor: Predictor, width: int, height: int, *, one_size: bool = False) -> Choice:
    """The plan that needs least for calls with tensors of `width` by `height` pixels.

    Args:
        predictor: Answers for the model at its target.
        width: Of the tensor, already padded or resized.
        height: Likewise.
        one_size: Whether every call of the operating point has this size, by its tile or by a resize of the contract.
            Only then are frozen shapes looked at: such a session takes no other size.

    Raises:
        InvalidInputError: As the predictor.
        UndecidedError: As the predictor, under the runtime's own settings.
    """
    search = _Search(predictor, width, height)
    own = search.candidate(_OWN, MemoryPlan())
    if own.answer.key.runtime == "torch":
        return Choice(own.name, own.plan, own.answer, ())
    found, lost = [own], []
    for name, plan in _candidates(search, own, one_size=one_size):
        try:
            found.append(search.candidate(name, plan))
        except ChangeoverError as error:
            lost.append(PassedOver(name, plan, None, str(error)))
    winner = min((one for one in found if not _never(one)), key=lambda one: one.need_bytes)
    passed = (_passed_over(one, winner) for one in found if one is not winner)
    return Choice(winner.name, winner.plan, winner.answer, (*passed, *lost, *_impossible(found, one_size=one_size)))


@dataclass(frozen=True, slots=True)
class _Search:
    """A predictor at one size."""

    predictor: Predictor
    width: int
    height: int

    def answer(self, plan: MemoryPlan) -> MemoryAnswer:
        return self.predictor.answer(self.width, self.height, plan)

    def candidate(self, name: str, plan: MemoryPlan) -> _Candidate:
        """What a plan needs. An arena that gives nothing back only grows, so its last total is its most."""
        answer = self.answer(plan)
        if plan.shrink == "never":
            return _Candidate(name, plan, answer, _need(answer))
        kept = self.answer(plan.model_copy(update={"shrink": "never"}))
        return _Candidate(name, plan, answer, max(_need(answer), _need(kept)))

    def first_region(self, plan: MemoryPlan) -> int | None:
        """A first region near the smallest that needs no second one, with its margin; None where none is large enough.

        Whether a size is enough does not grow with the size alone, so the answer is one that was simulated.
        """
        largest = self.answer(_with_region(plan, LARGEST_CHUNK))
        beside = largest.range.high_bytes - _up(LARGEST_CHUNK)
        if beside >= largest.part("weights") + _REGION:
            return None
        low = max(0, largest.requested_bytes - beside) // _ROUND * _ROUND
        high = _up(max(low + _ROUND, largest.steady.in_use_bytes - beside))
        while high < LARGEST_CHUNK and not self._is_enough(plan, high, beside):
            low, high = high, _up(high + high // _GROWTH)
        while high - low > max(_ROUND, high // _FINE):
            middle = _up((low + high) // 2)
            low, high = (low, middle) if self._is_enough(plan, middle, beside) else (middle, high)
        return min(LARGEST_CHUNK, _up(high + high // _MARGIN))

    def _is_enough(self, plan: MemoryPlan, size: int, beside: int) -> bool:
        return self.answer(_with_region(plan, size)).range.high_bytes <= size + beside


def _candidates(search: _Search, own: _Candidate, *, one_size: bool) -> Iterator[tuple[str, MemoryPlan]]:
    """All but the runtime's own, simplest first."""
    for frozen in (False, True) if one_size else (False,):
        tail = ", frozen shapes" if frozen else ""
        base = MemoryPlan(freeze=frozen)
        bare, exact = (
            base.model_copy(update={"pattern": False}),
            base.model_copy(update={"extend": "same-as-requested"}),
        )
        if frozen:
            yield "frozen shapes", base
        yield f"no pattern{tail}", bare
        yield f"as requested{tail}", exact
        yield f"as requested, no pattern{tail}", exact.model_copy(update={"pattern": False})
        yield f"as requested, shrink after warm-up{tail}", exact.model_copy(update={"shrink": "after-warm-up"})
        for name, plan in ((f"first region{tail}", base), (f"first region, no pattern{tail}", bare)):
            # Where no answer is to be had, the candidates before this one have said why.
            with suppress(ChangeoverError):
                size = search.first_region(plan)
                if size is not None:
                    yield name, _with_region(plan, size)
    if own.answer.key.provider == "cuda":
        yield (
            "small workspace",
            MemoryPlan(extend="same-as-requested", cudnn_search="heuristic", cudnn_max_workspace=False),
        )


def _need(answer: MemoryAnswer) -> int:
    return sum(answer.part(name) for name in _OF_THE_PLAN)


def _passed_over(one: _Candidate, winner: _Candidate) -> PassedOver:
    more = one.need_bytes - winner.need_bytes
    why = f"needs {abs(more)} bytes {'more' if more > 0 else 'less'} than {winner.name}"
    if not more:
        why = f"needs as much as {winner.name}, which is simpler"
    if one.plan.shrink != "never":
        why += f"; {one.answer.steady.arena_bytes} bytes of arena in the steady state"
    never = _never(one)
    return PassedOver(one.name, one.plan, one.need_bytes, f"{why}; {never}" if never else why)


def _never(one: _Candidate) -> str | None:
    """Why a candidate is never taken, whatever it needs."""
    if one.plan.freeze:
        return "its answers may differ in their last bits"
    if one.plan.cudnn_search is not None or one.plan.cudnn_max_workspace is not None:
        return "its answers and its speed may differ"
    if one.plan.initial_chunk_bytes and one.answer.key.provider == "cuda" and one.answer.label == "modelled":
        return "this GPU is not calibrated, and a region too small by a byte would cost a second one"
    return None


def _impossible(found: list[_Candidate], *, one_size: bool) -> Iterator[PassedOver]:
    """What could not be tried, and why."""
    if not any(one.plan.initial_chunk_bytes for one in found):
        yield PassedOver(
            "first region", _with_region(MemoryPlan(), LARGEST_CHUNK), None, "needs more than the largest one, 2 GiB"
        )
    if not one_size:
        why = "tensors follow the plate, and a frozen session takes one size"
        yield PassedOver("frozen shapes", MemoryPlan(freeze=True), None, why)


def _with_region(plan: MemoryPlan, size: int) -> MemoryPlan:
    return plan.model_copy(update={"initial_chunk_bytes": min(size, LARGEST_CHUNK)})


def _up(size: int) -> int:
    return -(-size // _ROUND) * _ROUND
