from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import MeasurementError, UndecidedError
from changeover_validators.runtimes.spill import SHARED_SLACK_BYTES, SLOWER, Spill, SpillFacts, spill_error, spilled

MIB = 1 << 20


def facts(**changes: Any) -> SpillFacts:
    calm: dict[str, Any] = {
        "driver_model": "wddm",
        "shared_before_bytes": 40 * MIB,
        "shared_after_bytes": 50 * MIB,
        "frame_us": 110_000,
        "approved_us": 100_000,
    }
    return SpillFacts(**(calm | changes))


@pytest.mark.parametrize(
    ("changes", "answer", "said"),
    [
        ({}, "none", "grew by 10485760 bytes and a frame takes 1.1 times"),
        ({"shared_after_bytes": 4000 * MIB}, "spilled", "shared GPU memory grew by"),
        ({"frame_us": 2_000_000}, "spilled", "takes 20.0 times the approved one"),
        ({"shared_before_bytes": None}, "none", "a frame takes 1.1 times"),
        ({"shared_before_bytes": None, "frame_us": 2_000_000}, "spilled", "20.0 times"),
        ({"approved_us": None}, "none", "grew by 10485760 bytes"),
        ({"approved_us": None, "shared_after_bytes": 4000 * MIB}, "spilled", "grew by"),
        ({"approved_us": None, "shared_after_bytes": None}, "unknown", "neither"),
        ({"approved_us": 0, "shared_after_bytes": None}, "unknown", "neither"),
        ({"driver_model": "tcc", "shared_after_bytes": 4000 * MIB}, "none", "only Windows"),
        ({"driver_model": None, "frame_us": 2_000_000}, "none", "only Windows"),
        ({"shared_after_bytes": 0}, "none", "grew by 0 bytes"),
    ],
)
def test_a_spill_shows_in_shared_memory_or_in_time(changes: dict[str, Any], answer: str, said: str) -> None:
    found = spilled(facts(**changes))

    assert found.answer == answer
    assert said in found.why


bytes_or_none = st.one_of(st.none(), st.integers(0, 1 << 40))
times_or_none = st.one_of(st.none(), st.integers(0, 10**9))


@given(bytes_or_none, bytes_or_none, times_or_none, times_or_none)
def test_one_sign_is_enough_and_none_at_all_is_never_a_pass(
    before: int | None, after: int | None, frame: int | None, approved: int | None
) -> None:
    answer = spilled(SpillFacts("wddm", before, after, frame, approved)).answer

    grew = before is not None and after is not None and after - before > SHARED_SLACK_BYTES
    slow = frame is not None and bool(approved) and frame / (approved or 1) >= SLOWER
    looked = (before is not None and after is not None) or (frame is not None and bool(approved))
    assert answer == ("spilled" if grew or slow else "none" if looked else "unknown")


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(1, 10**9))
def test_more_shared_memory_never_turns_a_spill_into_none(after: int, more: int, frame: int) -> None:
    less = spilled(facts(shared_after_bytes=after, frame_us=frame)).answer

    assert less == "none" or spilled(facts(shared_after_bytes=after + more, frame_us=frame)).answer == "spilled"


def test_an_answer_becomes_the_error_that_it_deserves() -> None:
    assert spill_error(Spill("none", "calm"), where="w") is None
    failed, open_ = (spill_error(Spill(answer, "why"), where="w") for answer in ("spilled", "unknown"))

    assert isinstance(failed, MeasurementError)
    assert isinstance(open_, UndecidedError)
    assert (failed.rule, failed.actual) == ("out of device memory", "why")
