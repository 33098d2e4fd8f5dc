"""Several updates at once, as real processes; `make faults` has a hundred."""

from changeover_faults import crowd
from changeover_faults.report import Report
from changeover_faults.studio import Studio


def test_of_twelve_updates_at_once_one_changes_over_and_all_end_well(studio: Studio) -> None:
    report = Report("parallel")

    crowd.parallel(studio, report, 12)

    assert report.cases == 12
    assert report.violations == []
