from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.clock import format_time, now, parse_time
from changeover_registry.errors import InvalidInputError

moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


@settings(deadline=None)
@given(moments.map(lambda moment: moment.replace(microsecond=0)))
def test_a_moment_reads_back_as_it_was_written(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


def test_another_zone_is_written_in_utc() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=2)))

    assert format_time(noon) == "2026-11-22T10:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22",
        "2026-11-22T13:45:00",
        "2026-11-22T13:45:00+00:00",
        "2026-11-22T13:45:00.5Z",
        "2026-1-2T3:4:5Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "٢٠٢٦-11-22T13:45:00Z",
        "2026-11-22T13:45:00Z\n",
        "",
    ],
)
def test_another_form_of_a_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="UTC in the form") as caught:
        parse_time(text, where="policy.toml: until")

    assert caught.value.where == "policy.toml: until"


def test_the_clock_is_read_in_utc_and_whole_seconds() -> None:
    moment = now()

    assert moment.tzinfo is UTC
    assert moment.microsecond == 0
