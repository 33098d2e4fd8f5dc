"""The choice of a plan, on a predictor that simulates sessions which are written down here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import UndecidedError
from changeover_registry.records.memory import MemoryAnswer, MemoryKey, MemoryPart, MemoryPlan, MemoryRange, Steady
from changeover_validators.runtimes.memory_plan import shrinks
from changeover_validators.vram.arena import Arena
from changeover_validators.vram.pattern import packed_bytes
from changeover_validators.vram.plans import LARGEST_CHUNK, Choice, choose_plan

MIB = 2**20
Event = tuple[int, int]
"""A buffer and its bytes where it is taken, or -1 where it is given back; as `packed_bytes` takes them."""


@dataclass
class Sessions:
    """Several sessions of one model, each a run's events in order; a predictor by simulation of the arena alone."""

    runs: Sequence[Sequence[Event]]
    weights: int = 0
    provider: Literal["cpu", "cuda"] = "cpu"
    runtime: Literal["onnxruntime", "torch"] = "onnxruntime"
    frozen: bool = True
    label: Literal["calibrated", "modelled"] = "modelled"
    asked: list[MemoryPlan] = field(default_factory=list)

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        self.asked.append(plan)
        if plan.freeze and not self.frozen:
            raise UndecidedError("freeze", where="x", expected="a name", actual="none", remedy="none")
        totals, in_use = [], []
        for events in self.runs:
            total, used = self._session(events, plan)
            totals.append(total)
            in_use.append(used)
        middle = sorted(totals)[len(totals) // 2]
        weights, rest = self.weights, max(totals) - self.weights
        return MemoryAnswer(
            key=MemoryKey(
                model="0" * 64,
                runtime=self.runtime,
                version="1",
                provider=self.provider,
                width=width,
                height=height,
                plan=plan,
            ),
            steady=Steady(in_use_bytes=max(in_use), arena_bytes=middle),
            range=MemoryRange(low_bytes=min(totals), high_bytes=max(totals), sessions=len(totals)),
            parts=(
                MemoryPart(name="weights", bytes=weights, label="modelled"),
                MemoryPart(name="activations", bytes=rest, label="modelled"),
            ),
            total_bytes=max(totals),
            requested_bytes=self.weights + max(map(most_alive, self.runs)),
            label=self.label,
        )

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        return self.answer(width, height, plan).range.high_bytes <= limit_bytes

    def _session(self, events: Sequence[Event], plan: MemoryPlan) -> tuple[int, int]:
        arena = Arena(extend=plan.extend, initial_chunk_bytes=plan.initial_chunk_bytes)
        if self.weights:
            arena.reserve(self.weights)
        for number in range(1, 5):
            if plan.pattern and number > 1:
                arena.free(arena.allocate(packed_bytes(events)))
            else:
                replay(arena, events)
            if shrinks(plan, number):
                arena.shrink()
        return arena.total, arena.max_in_use


def replay(arena: Arena, events: Sequence[Event]) -> None:
    handles: dict[int, int] = {}
    for buffer, size in events:
        if size > 0:
            handles[buffer] = arena.allocate(size)
        else:
            arena.free(handles.pop(buffer))
    for handle in handles.values():
        arena.free(handle)


def most_alive(events: Sequence[Event]) -> int:
    sizes: dict[int, int] = {}
    most = 0
    for buffer, size in events:
        if size > 0:
            sizes[buffer] = size
        else:
            del sizes[buffer]
        most = max(most, sum(sizes.values()))
    return most


def chain(*sizes: int) -> list[Event]:
    """Each buffer lives until the one after it has been made."""
    events: list[Event] = []
    for index, size in enumerate(sizes):
        events.append((index, size))
        if index:
            events.append((index - 1, -1))
    return [*events, (len(sizes) - 1, -1)]


HOURGLASS = chain(60 * MIB, 45 * MIB, 20 * MIB, 10 * MIB, 25 * MIB, 50 * MIB, 70 * MIB)


def is_one_region(sessions: Sessions, plan: MemoryPlan, size: int) -> bool:
    asked = plan.model_copy(update={"initial_chunk_bytes": size})
    return sessions.answer(512, 512, asked).range.high_bytes == size + sessions.weights


def named(choice: Choice) -> dict[str, int | None]:
    return {one.name: one.need_bytes for one in choice.passed_over} | {choice.name: choice.answer.range.high_bytes}


def test_the_plan_that_needs_least_is_taken_and_every_other_has_its_figure() -> None:
    choice = choose_plan(Sessions([HOURGLASS], weights=3 * MIB), 512, 512)

    figures = named(choice)
    assert choice.answer.key.plan == choice.plan
    assert choice.answer.range.high_bytes == min(size for size in figures.values() if size is not None)
    assert choice.answer.range.high_bytes < (figures["the runtime's own"] or 0)
    assert set(figures) == {
        "the runtime's own",
        "no pattern",
        "as requested",
        "as requested, no pattern",
        "as requested, shrink after warm-up",
        "first region",
        "first region, no pattern",
        "frozen shapes",
    }
    assert all(one.why for one in choice.passed_over)


def test_a_first_region_holds_all_that_the_sessions_ever_need() -> None:
    """One session that orders its work differently needs more; the region is made for that one."""
    other = chain(60 * MIB, 45 * MIB, 70 * MIB, 10 * MIB, 20 * MIB, 25 * MIB, 50 * MIB)
    both = Sessions([HOURGLASS, other], weights=3 * MIB)

    choice = choose_plan(both, 512, 512)

    assert choice.name.startswith("first region")
    size = choice.plan.initial_chunk_bytes or 0
    assert choice.answer.range.low_bytes == choice.answer.range.high_bytes == size + 3 * MIB
    enough = next(mib for mib in range(1, 2048) if is_one_region(both, choice.plan, mib * MIB))
    assert enough * MIB <= size <= enough * MIB * 1.03


def test_more_than_two_gib_gets_no_first_region_and_says_so() -> None:
    giants = chain(*(size * 40 for size in (60 * MIB, 45 * MIB, 20 * MIB, 70 * MIB)))

    choice = choose_plan(Sessions([giants]), 4096, 2160)

    assert choice.plan.initial_chunk_bytes is None
    assert choice.plan.extend == "same-as-requested"
    assert next(one.why for one in choice.passed_over if one.name == "first region").startswith("needs more than")


def test_warm_up_counts_so_that_giving_back_later_wins_nothing() -> None:
    """The card must have what the first two runs take together, however little is held after them."""
    sessions = Sessions([chain(*(size * 40 for size in (60 * MIB, 45 * MIB, 20 * MIB, 70 * MIB)))])

    choice = choose_plan(sessions, 4096, 2160)

    figures = named(choice)
    shrunk = sessions.answer(4096, 2160, MemoryPlan(extend="same-as-requested", shrink="after-warm-up"))
    assert figures["as requested, shrink after warm-up"] == figures["as requested"]
    assert shrunk.range.high_bytes < (figures["as requested"] or 0)


def test_giving_back_is_told_with_what_it_would_save_afterwards() -> None:
    sessions = Sessions([HOURGLASS])
    shrunk = sessions.answer(512, 512, MemoryPlan(extend="same-as-requested", shrink="after-warm-up"))

    passed = choose_plan(sessions, 512, 512).passed_over

    why = next(one.why for one in passed if one.name == "as requested, shrink after warm-up")
    assert why.endswith(f"; {shrunk.steady.arena_bytes} bytes of arena in the steady state")


def test_nothing_is_changed_where_the_runtimes_own_is_as_good() -> None:
    """A mebibyte fits the arena's first region, and so nothing is better."""
    choice = choose_plan(Sessions([[(0, MIB), (0, -1)]]), 8, 8)

    assert choice.plan == MemoryPlan()
    assert {one.why for one in choice.passed_over if one.name == "no pattern"} == {
        "needs as much as the runtime's own, which is simpler"
    }


def test_frozen_shapes_are_told_where_the_operating_point_has_one_size_and_never_taken() -> None:
    """They may change an answer; here they would need less than all others."""

    class Lean(Sessions):
        def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
            runs = self.runs
            self.runs = [chain(MIB, MIB)] if plan.freeze else runs
            found = super().answer(width, height, plan)
            self.runs = runs
            return found

    free, fixed = (choose_plan(Lean([HOURGLASS]), 512, 512, one_size=one_size) for one_size in (False, True))

    assert named(free)["frozen shapes"] is None
    assert fixed.plan == free.plan
    why = next(one.why for one in fixed.passed_over if one.name == "frozen shapes")
    assert "bytes less than first region" in why
    assert why.endswith("its answers may differ in their last bits")


def test_a_candidate_without_an_answer_is_passed_over_with_the_reason() -> None:
    choice = choose_plan(Sessions([HOURGLASS], frozen=False), 512, 512, one_size=True)

    why = next(one.why for one in choice.passed_over if one.name == "frozen shapes")
    assert "a name" in why
    assert not choice.plan.freeze


def test_no_answer_under_the_runtimes_own_settings_is_no_choice() -> None:
    class Silent(Sessions):
        def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
            raise UndecidedError("sizes", where=str(plan), expected="x", actual=f"{width}x{height}", remedy="x")

    with pytest.raises(UndecidedError):
        choose_plan(Silent([HOURGLASS]), 512, 512)


def test_torch_has_no_such_settings() -> None:
    choice = choose_plan(Sessions([HOURGLASS], runtime="torch"), 512, 512)

    assert (choice.plan, choice.passed_over) == (MemoryPlan(), ())


def test_on_a_gpu_that_nobody_calibrated_no_first_region_is_laid_out_and_cudnn_is_left_alone() -> None:
    modelled = choose_plan(Sessions([HOURGLASS], provider="cuda"), 512, 512)
    calibrated = choose_plan(Sessions([HOURGLASS], provider="cuda", label="calibrated"), 512, 512)

    why = {one.name: one.why for one in modelled.passed_over}
    assert why["small workspace"].endswith("its answers and its speed may differ")
    assert "not calibrated" in why["first region"]
    assert modelled.plan.initial_chunk_bytes is None
    assert calibrated.plan.initial_chunk_bytes is not None
    assert modelled.plan.cudnn_search is calibrated.plan.cudnn_search is None


def test_the_choice_asks_for_few_simulations() -> None:
    sessions = Sessions([HOURGLASS], weights=3 * MIB)

    choose_plan(sessions, 512, 512, one_size=True)

    assert len(sessions.asked) < 120


@st.composite
def runs(draw: st.DrawFn) -> list[Event]:
    """Buffers of any size that live for any time."""
    events: list[Event] = []
    alive: list[int] = []
    for number in range(draw(st.integers(1, 12))):
        events.append((number, draw(st.integers(1, 64)) * 37_000))
        alive.append(number)
        while len(alive) > 1 and draw(st.booleans()):
            events.append((alive.pop(draw(st.integers(0, len(alive) - 1))), -1))
    return events + [(number, -1) for number in alive]


@settings(max_examples=40, deadline=None)
@given(st.lists(runs(), min_size=1, max_size=3), st.integers(0, 5 * MIB), st.booleans())
def test_no_choice_needs_more_than_the_runtimes_own_and_asking_again_gives_the_same(
    sessions: list[list[Event]], weights: int, one_size: Any
) -> None:
    choice = choose_plan(Sessions(sessions, weights), 64, 64, one_size=one_size)
    own = Sessions(sessions, weights).answer(64, 64, MemoryPlan())

    assert choice.answer.range.high_bytes <= own.range.high_bytes
    assert choice == choose_plan(Sessions(sessions, weights), 64, 64, one_size=one_size)
    assert all((one.plan.initial_chunk_bytes or 256) in range(256, LARGEST_CHUNK + 1) for one in choice.passed_over)
