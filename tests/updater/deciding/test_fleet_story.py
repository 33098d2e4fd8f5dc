"""The story of `bench_fleet` with fewer stations; by itself that plays it with ten thousand."""

import pytest

from changeover_updater.bench_fleet import Report, lines, story


@pytest.fixture(scope="module")
def report() -> Report:
    return story(150)


def test_all_healthy_stations_come_to_the_release_and_faulty_ones_stay_on_the_one_before(report: Report) -> None:
    assert report.converged
    assert 0 < report.faulty == report.stayed < report.hosts


def test_nobody_leaves_a_cohort_and_nobody_moves_while_it_is_paused(report: Report) -> None:
    assert (report.flips, report.moved_while_paused) == (0, 0)
    assert [percent for percent, _ in report.shares] == [1, 10, 50]
    assert all(abs(reached - percent / 100) < 0.1 for percent, reached in report.shares)


def test_a_release_that_fails_on_most_stops_by_itself_and_a_signed_stop_brings_everybody_back(report: Report) -> None:
    assert report.stopped_of_bad
    assert 0 < report.tried_of_bad < report.hosts
    assert report.back_after_stop


def test_requests_and_bytes_of_a_host_and_day_are_told(report: Report) -> None:
    assert 1440 < report.requests_a_day < 10_000
    assert "a host and day: " in lines(report)[-1]
